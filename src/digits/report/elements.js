"use strict";
// What is shown, which is the JSON in #content, and how elements are made of it: text gets in as text, never as HTML.

const content = JSON.parse(document.getElementById("content").textContent);
const main = document.getElementById("main");
const rowOf = new Map(content.rows.filter((row) => row.kind !== "stranger").map((row) => [row.run, row]));
const told = content.runs;

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "css") for (const [key, one] of Object.entries(value)) element.style.setProperty(key, one);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(9).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}
const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const s = (tag, attributes, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

// A text whose parts between backticks are code.
const coded = (text) => text.split("`").map((piece, at) => (at % 2 ? h("code", {}, piece) : piece));

const percent = (value, digits = 2) => (100 * value).toFixed(digits) + "%";
const points = (value) => (value < 0 ? "−" : "+") + Math.abs(100 * value).toFixed(2);
const count = (value) => Math.round(value).toLocaleString("en");
const many = (value, one, more = one + "s") => `${count(value)} ${value === 1 ? one : more}`;
const day = (date) => (date || "").slice(0, 10);
const address = (...parts) => "#/" + parts.map(encodeURIComponent).join("/");

function time(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 90) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  return seconds < 5400 ? `${(seconds / 60).toFixed(1)} min` : `${(seconds / 3600).toFixed(1)} h`;
}
