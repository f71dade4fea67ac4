"use strict";
// Draws the report. What is shown is the JSON in #content; text gets into the page as text alone, never as HTML.

const content = JSON.parse(document.getElementById("content").textContent);
const main = document.getElementById("main");
const rowOf = new Map(content.rows.filter((row) => row.kind !== "stranger").map((row) => [row.run, row]));
const told = content.runs;

// --- making elements

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

// --- charts: each is drawn at the width that it has, and again when that changes

const drawn = new Set();
function chart(label, height, draw, ...caption) {
  const figure = h("figure");
  const redraw = () => {
    const width = Math.max(figure.clientWidth, 240);
    const svg = s("svg", { role: "img", "aria-label": label, viewBox: `0 0 ${width} ${height}`, height });
    draw(svg, width, height);
    if (figure.firstChild && figure.firstChild.nodeName === "svg") figure.firstChild.replaceWith(svg);
    else figure.prepend(svg);
  };
  if (caption.length) figure.append(h("figcaption", {}, ...caption));
  drawn.add(redraw);
  return figure;
}
let waiting = 0;
addEventListener("resize", () => {
  cancelAnimationFrame(waiting);
  waiting = requestAnimationFrame(() => drawn.forEach((redraw) => redraw()));
});

const linear = (low, high, from, to) => (value) => from + ((value - low) / (high - low || 1)) * (to - from);
const log = (low, high, from, to) => {
  const scale = linear(Math.log(low), Math.log(high), from, to);
  return (value) => scale(Math.log(value));
};
function ticks(low, high, wanted) {
  const rough = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((one) => one * power).find((one) => one >= rough);
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9); at * step <= high + step * 1e-9; at++) found.push(at * step);
  return found;
}
function logTicks(low, high) {
  const inside = (steps) => {
    const found = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++)
      for (const step of steps) found.push(step * 10 ** power);
    return found.filter((value) => value >= low * 0.999 && value <= high * 1.001);
  };
  const all = [[1], [1, 2, 5], [1, 1.5, 2, 3, 4, 5, 6, 8]].map(inside);
  return all[1].length > 7 ? all[0] : all[1].length < 3 ? all[2] : all[1];
}
const short = (value) => Number(value.toPrecision(3)).toString();
const plain = (value) => Number(value.toPrecision(6)).toString();

function xAxis(svg, scale, values, y, title, width, format = plain) {
  for (const value of values)
    svg.append(
      s("line", { class: "axis", x1: scale(value), x2: scale(value), y1: y, y2: y + 4 }),
      s("text", { x: scale(value), y: y + 17, "text-anchor": "middle" }, format(value)),
    );
  svg.append(s("text", { x: width, y: y + 33, "text-anchor": "end" }, title));
}
function yAxis(svg, scale, values, left, right, title, format = plain) {
  for (const value of values)
    svg.append(
      s("line", { class: "grid", x1: left, x2: right, y1: scale(value), y2: scale(value) }),
      s("text", { x: left - 7, y: scale(value) + 4, "text-anchor": "end" }, format(value)),
    );
  svg.append(s("text", { x: 0, y: 11 }, title));
}

const COLOURS = { train: "var(--blue)", dev: "var(--red)", a: "var(--blue)", b: "var(--red)" };
function lines(title, unit, curves) {
  const named = curves.map((curve) => `${curve.name} ends at ${plain(curve.y[curve.y.length - 1])}`);
  return chart(`${title} over the training: ${named.join(", ")}`, 250, (svg, width, height) => {
    const left = 44, right = width - (curves.length > 2 ? 12 : 84), top = 26, bottom = height - 40;
    const positive = curves.flatMap((curve) => curve.y).filter((value) => value > 0);
    const least = Math.min(...positive), most = Math.max(...positive);
    const zero = curves.some((curve) => curve.y.some((value) => value <= 0));
    const floor = positive.length ? least / (zero ? 2 : 1.15) : 0.5, roof = positive.length ? most * 1.1 : 1;
    const y = log(floor, roof, bottom, top);
    const xs = curves.flatMap((curve) => curve.x);
    const x = linear(Math.min(...xs), Math.max(...xs), left, right);
    yAxis(svg, y, logTicks(floor, roof), left, right, title);
    xAxis(svg, x, ticks(Math.min(...xs), Math.max(...xs), Math.max(2, Math.min(8, width / 80))).filter((v) => v % 1 === 0), bottom, unit, right);
    svg.append(s("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }));
    const ends = [];
    curves.forEach((curve) => {
      const at = curve.y.map((value) => y(Math.max(value, floor)));
      const colour = COLOURS[curve.who];
      svg.append(s("polyline", { class: "wire", points: curve.x.map((value, k) => `${x(value)},${at[k]}`).join(" "), css: { stroke: colour, opacity: curves.length > 2 ? 0.6 : 1 } }));
      if (curve.x.length < 40)
        curve.x.forEach((value, k) => svg.append(s("circle", { cx: x(value), cy: at[k], r: 2, css: { fill: colour } })));
      ends.push({ curve, y: at[at.length - 1], colour });
    });
    if (curves.length <= 2) {
      ends.sort((one, other) => one.y - other.y);
      if (ends.length === 2 && ends[1].y - ends[0].y < 15) {
        const middle = (ends[0].y + ends[1].y) / 2;
        ends[0].y = middle - 7.5;
        ends[1].y = middle + 7.5;
      }
      for (const end of ends)
        svg.append(s("text", { class: "name", x: right + 7, y: end.y + 4, css: { fill: end.colour } }, `${end.curve.name} ${short(end.curve.y[end.curve.y.length - 1])}`));
    }
  });
}

function reliability(told) {
  const { bins, error, confidence, accuracy } = told.calibration;
  const { images } = told.judged;
  const way = Math.abs(confidence - accuracy) < 0.005 ? "about as sure as it is right" : confidence < accuracy ? "less sure than it is right" : "surer than it is right";
  return h("div", { class: "pair" },
    chart(
      `Reliability diagram: accuracy against confidence in ${bins.length} bins, expected calibration error ${(100 * error).toFixed(2)} points`,
      280,
      (svg, width, height) => {
        const left = 44, bottom = height - 40, top = 26, right = width - 12;
        const x = linear(0, 100, left, right), y = linear(0, 100, bottom, top);
        yAxis(svg, y, [0, 25, 50, 75, 100], left, right, "accuracy, %");
        xAxis(svg, x, [0, 25, 50, 75, 100], bottom, "confidence, %", right);
        svg.append(
          s("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }),
          s("line", { class: "axis", x1: x(0), y1: y(0), x2: x(100), y2: y(100), "stroke-dasharray": "4 4" }),
        );
        for (const [inside, sure, hits] of bins)
          svg.append(
            s("line", { x1: x(100 * sure), x2: x(100 * sure), y1: y(100 * sure), y2: y(100 * hits), css: { stroke: "var(--red)", "stroke-width": 1.5 } }),
            s("circle", { cx: x(100 * sure), cy: y(100 * hits), r: 3 + 7 * Math.sqrt(inside / images), css: { fill: "var(--blue)", "fill-opacity": 0.75, stroke: "var(--paper)" } }, s("title", {}, `${many(inside, "image")}: ${percent(sure, 1)} sure, ${percent(hits, 1)} right`)),
          );
      },
    ),
    h("div", {},
      h("p", {}, `On average the run is ${percent(confidence, 1)} sure and right ${percent(accuracy, 1)} of the time: ${way}. The expected calibration error is ${(100 * error).toFixed(2)} points.`),
      h("p", { class: "soft small" }, "A dot is the images whose confidence, the probability of the digit predicted, is in one of 15 equal intervals; its area grows with their number. On the dashed line confidence is accuracy; the red lines are how far off it is (Guo et al. 2017, “On calibration of modern neural networks”, arXiv 1706.04599)."),
      numbers("The bins as a table", ["confidence", "accuracy", "images"], bins.map((bin) => [percent(bin[1], 1), percent(bin[2], 1), count(bin[0])]))),
  );
}

function numbers(title, heads, rows) {
  return h("details", {}, h("summary", {}, title), h("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": title },
    h("table", {}, h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col", class: "number" }, head)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell) => h("td", { class: "number" }, cell))))))));
}

function surprisePlot() {
  const { points: all, images, scored } = content.plot;
  const spread = (value, n) => Math.sqrt(Math.max(value * (1 - value), 0) / n);
  const section = h("section", {}, h("h2", {}, "Dev against public score"));
  if (!all.length) {
    section.append(h("p", { class: "soft" }, coded("No run here has both a dev score and a public one yet: `digits submit` gets one, and `digits leaderboard --sync` reads those that Kaggle has.")));
    return section;
  }
  const odd = all.filter((point) => point.surprise);
  section.append(h("div", { class: "pair wide-left" },
    chart(`Dev accuracy against public score of ${many(all.length, "run")}, ${odd.length} of them outside the band of no surprise`, 340, (svg, width, height) => {
      const left = 54, right = width - 10, top = 26, bottom = height - 42;
      const values = all.flatMap((point) => [point.dev - point.devError, point.dev + point.devError, point.public]);
      let low = Math.min(...values), high = Math.min(Math.max(...values), 1);
      const room = Math.max((high - low) * 0.08, 0.0008);
      low = Math.max(0, low - room);
      high = Math.min(1, high + room);
      const x = linear(low, high, left, right), y = linear(low, high, bottom, top);
      const at = Array.from({ length: 41 }, (_, k) => low + ((high - low) * k) / 40);
      const wide = at.map((value) => 2 * Math.hypot(spread(value, images), spread(value, scored)));
      const clip = (value) => Math.min(Math.max(value, low), high);
      const format = (value) => (100 * value).toFixed(high - low < 0.02 ? 2 : 1).replace(/\.?0+$/, "");
      yAxis(svg, y, ticks(low, high, 6), left, right, "public score, %", format);
      xAxis(svg, x, ticks(low, high, Math.max(2, Math.min(8, width / 90))), bottom, "dev accuracy, %", right, format);
      const upper = at.map((value, k) => `${x(value)},${y(clip(value + wide[k]))}`);
      const lower = at.map((value, k) => `${x(value)},${y(clip(value - wide[k]))}`).reverse();
      svg.append(
        s("polygon", { class: "band", points: [...upper, ...lower].join(" ") }),
        s("line", { class: "axis", x1: x(low), y1: y(low), x2: x(high), y2: y(high), "stroke-dasharray": "4 4" }),
        s("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }),
      );
      for (const point of all) {
        const colour = point.surprise ? "var(--red)" : "var(--blue)";
        const link = s("a", { href: address("run", point.run), "aria-label": `${point.run}: dev ${percent(point.dev)}, public ${percent(point.public, 3)}, ${point.gap}` },
          s("title", {}, `${point.run}\ndev ${percent(point.dev)}, public ${percent(point.public, 3)}\ngap ${point.gap}`),
          s("line", { x1: x(clip(point.dev - point.devError)), x2: x(clip(point.dev + point.devError)), y1: y(point.public), y2: y(point.public), css: { stroke: colour, opacity: 0.5 } }),
          point.surprise
            ? s("path", { d: `M${x(point.dev)} ${y(point.public) - 6}l6 6l-6 6l-6-6z`, css: { fill: colour } })
            : s("circle", { cx: x(point.dev), cy: y(point.public), r: 4.5, css: { fill: colour } }));
        svg.append(link);
      }
    }),
    h("div", {},
      h("p", {}, `On the line the public score is the dev score. The band is what chance alone does to it, ± 2 standard errors of the difference with ${count(images)} dev images and ${count(scored)} scored ones; `,
      odd.length ? `${many(odd.length, "run")} of ${all.length} ${odd.length === 1 ? "is" : "are"} further off than that.` : `${all.length === 1 ? "the one run is" : `all ${all.length} runs are`} within what chance does to them.`),
      h("p", { class: "soft small" }, "Whiskers are ± 1 standard error of the dev accuracy; a diamond is a run whose gap is more than 2 standard errors of its own. A public score far below the line says that the dev split was tuned to, far above it that test labels were known."),
      numbers("The runs as a table", ["run", "dev", "public", "gap"], all.map((point) => [point.run, percent(point.dev), percent(point.public, 3), point.gap])))));
  return section;
}

// --- images and their probabilities

const placeOf = new Map(content.pictures ? content.pictures.rows.map((row, place) => [row, place]) : []);
function tile(row, label) {
  const place = placeOf.get(row);
  if (place === undefined) return h("div", { class: "tile empty", role: "img", "aria-label": label + ", not shown" }, "no image");
  const columns = content.pictures.columns;
  return h("div", { class: "tile", role: "img", "aria-label": label, css: { "background-position": `${-84 * (place % columns)}px ${-84 * Math.floor(place / columns)}px` } });
}
function ten(label, predicted, thousandths) {
  const svg = s("svg", { class: "ten", viewBox: "0 0 100 36", preserveAspectRatio: "none", role: "img", "aria-label": "probabilities: " + thousandths.map((p, k) => `${k} ${(p / 10).toFixed(1)}%`).join(", ") });
  thousandths.forEach((p, k) => {
    const tall = Math.max((p / 1000) * 34, p > 0 ? 0.8 : 0);
    svg.append(s("rect", { x: k * 10 + 1.5, y: 0, width: 7, height: 36, css: { fill: "var(--line)", opacity: 0.55 } }),
      s("rect", { x: k * 10 + 1.5, y: 36 - tall, width: 7, height: tall, css: { fill: k === label ? "var(--blue)" : k === predicted ? "var(--red)" : "var(--soft)" } }, s("title", {}, `${k}: ${(p / 10).toFixed(1)}%`)));
  });
  return svg;
}
function best(thousandths) {
  return thousandths.indexOf(Math.max(...thousandths));
}
function card([row, label, thousandths, against, asked]) {
  const predicted = best(thousandths);
  const sure = (thousandths[predicted] / 10).toFixed(0), own = (thousandths[label] / 10).toFixed(0);
  return h("li", {},
    tile(row, `image in row ${row} of train.csv, labelled ${label}, predicted ${predicted}`),
    said(["predicted", predicted, `${sure}%`, predicted === label ? null : "wrong"], ["label", label, `${own}%`, "right"]),
    ten(label, predicted, thousandths),
    h("div", { class: "where" }, `#${row}`, asked ? ` · ${against} of ${many(asked, "run")}` : ""));
}
const said = (...rows) => h("table", { class: "said" }, h("tbody", {}, rows.map(([name, digit, sure, kind]) => h("tr", { class: kind }, h("th", { scope: "row" }, name), h("td", {}, h("b", {}, digit)), h("td", { class: "number" }, sure)))));
const gallery = (cards) => h("ul", { class: "gallery" }, cards);
const key = () => h("p", { class: "soft small" }, "Bars are the probabilities of 0 to 9: ", h("span", { class: "key-a" }, "blue the label"), ", ", h("span", { class: "key-b" }, "red the prediction"), coded(". # is the row of train.csv, from 0: `digits show RUN --index` shows it."));
const noPictures = () => (content.pictures ? null : h("p", { class: "notice" }, coded(content.notice)));

// --- the leaderboard

const COLUMNS = [
  { id: "rank", name: "#", value: (row) => row.rank, kind: "rank", first: 1 },
  { id: "run", name: "Run", value: (row) => row.run, first: 1 },
  { id: "recipe", name: "Recipe", value: (row) => row.recipe, first: 1 },
  { id: "seed", name: "Seed", value: (row) => row.seed, number: true, first: 1, from: "wider" },
  { id: "dev", name: "Dev accuracy", value: (row) => row.dev && row.dev.accuracy, number: true, first: -1 },
  { id: "public", name: "Public", value: (row) => row.public, number: true, first: -1 },
  { id: "gap", name: "Gap", value: (row) => row.gap && row.gap.value, number: true, first: -1 },
  { id: "seconds", name: "Time", value: (row) => row.seconds, number: true, first: 1, from: "wider" },
  { id: "date", name: "Date", value: (row) => row.date, first: -1 },
  { id: "commit", name: "Commit", value: (row) => row.commit, first: 1, from: "widest" },
];
const board = { sort: "rank", way: 1, text: "", recipe: "", from: "", to: "", chosen: [], scroll: 0 };

function matches(row) {
  const words = board.text.toLowerCase().split(/\s+/).filter(Boolean);
  const text = [row.run, row.recipe, row.note, row.commit, row.status, row.problem, row.description].join(" ").toLowerCase();
  return words.every((word) => text.includes(word)) && (!board.recipe || row.recipe === board.recipe)
    && (!board.from || day(row.date) >= board.from) && (!board.to || (row.date && day(row.date) <= board.to));
}
function sorted(rows) {
  const column = COLUMNS.find((one) => one.id === board.sort);
  const missing = (value) => value === null || value === undefined || value === "";
  return [...rows].sort((one, other) => {
    const a = column.value(one), b = column.value(other);
    if (missing(a) || missing(b)) return missing(a) - missing(b) || one.rank - other.rank;
    const order = typeof a === "number" ? a - b : a < b ? -1 : a > b ? 1 : 0;
    return board.way * order || one.rank - other.rank;
  });
}

function whiskers() {
  const errors = content.rows.filter((row) => row.dev).map((row) => 1 - row.dev.accuracy + 2 * row.dev.error).concat(content.rows.filter((row) => row.public !== null).map((row) => 1 - row.public));
  const least = content.rows.filter((row) => row.dev).map((row) => Math.max(1 - row.dev.accuracy - 2 * row.dev.error, 0.0005));
  if (!errors.length) return null;
  return log(Math.min(...least, ...errors) * 0.9, Math.max(...errors) * 1.1, 138, 2);
}
function whisker(row, scale) {
  const svg = s("svg", { width: 140, height: 14, "aria-hidden": "true" });
  if (row.dev) {
    const error = 1 - row.dev.accuracy;
    const at = (value) => scale(Math.max(value, 0.0005));
    svg.append(
      s("line", { x1: at(error + 2 * row.dev.error), x2: at(error - 2 * row.dev.error), y1: 7, y2: 7, css: { stroke: "var(--blue)", "stroke-width": 2, opacity: 0.45 } }),
      s("circle", { cx: at(error), cy: 7, r: 3.5, css: { fill: "var(--blue)" } }));
  }
  if (row.public !== null) svg.append(s("path", { d: `M${scale(Math.max(1 - row.public, 0.0005))} 2l5 5l-5 5l-5-5z`, css: { fill: "none", stroke: "var(--red)", "stroke-width": 1.75 } }));
  return svg;
}

// On what images a dev score is, where that is not the same of all runs; empty where it is the usual.
const JUDGED = { dev: ["", ""], fold: ["fold", "on one fold"], oof: ["oof", "out of fold, on all labelled images"] };
const severalKinds = content.rows.some((row) => row.judged && row.judged !== "dev");
function judgedOn(row) {
  const [name, title] = JUDGED[row.judged] || JUDGED.dev;
  return severalKinds && h("span", { class: "judged" }, name && h("abbr", { title }, name));
}

function cells(row, scale, choose) {
  const dash = () => h("span", { class: "none" }, "–");
  const named = (name, extra, ...children) => h("td", { "data-name": name, class: extra }, ...children);
  const id = row.told ? h("a", { href: address("run", row.run) }, row.run) : row.run;
  const badge = row.kind === "broken" ? h("span", { class: "badge bad" }, "can’t be read") : row.kind === "stranger" ? h("span", { class: "badge" }, "no run here") : row.status !== "finished" ? h("span", { class: "badge" + (row.status === "failed" ? " bad" : "") }, row.status) : row.sample ? h("span", { class: "badge" }, "sample data") : null;
  const box = row.told && h("input", { type: "checkbox", "aria-label": `Choose ${row.run} for a comparison`, checked: board.chosen.includes(row.run), onchange: (event) => choose(row.run, event.target) });
  if (row.kind === "broken") return [h("td", { class: "pick" }), h("td", { class: "rank" }), h("td", { class: "run", colspan: 10 }, id, " ", badge)];
  return [
    h("td", { class: "pick" }, box),
    h("td", { class: "number rank soft-number" }, row.rank),
    h("td", { class: "run" }, id, badge && [" ", badge]),
    named("Recipe", "less", row.recipe || dash()),
    named("Seed", "number wider", row.seed === null ? dash() : row.seed),
    named("Dev accuracy", "number key", row.dev ? [percent(row.dev.accuracy), h("span", { class: "soft-number" }, ` ± ${(100 * row.dev.error).toFixed(2)}`), judgedOn(row)] : dash()),
    h("td", { class: "whisker" }, scale && whisker(row, scale)),
    named("Public", "number key", row.public === null ? dash() : row.public.toFixed(5)),
    named("Gap", "number key", row.gap ? h("span", { class: row.gap.surprise ? "surprise" : "" , title: row.gap.text }, points(row.gap.value)) : dash()),
    named("Time", "number less wider", row.seconds === null ? dash() : time(row.seconds)),
    named("Date", "less still", row.date ? h("time", { datetime: row.date, title: row.date }, day(row.date)) : dash()),
    named("Commit", "mono widest", row.commit || dash()),
  ];
}

function wordsOn(row) {
  const words = [row.problem && [row.problem, true], ...(row.told ? told[row.run].wrong : []).map((text) => [text, true]), row.note && [row.note, false]].filter(Boolean);
  return words.length ? h("tr", { class: "more" }, h("td", { colspan: 2 }), h("td", { colspan: 10, class: "run" }, words.map(([text, bad]) => h("p", { class: bad ? "bad" : null }, bad ? coded(text) : text)))) : null;
}
function lineOf(row, scale, choose) {
  const more = wordsOn(row);
  const kinds = { [row.kind]: true, chosen: board.chosen.includes(row.run) && row.told, joined: more };
  return [h("tr", { "data-run": row.run, class: Object.keys(kinds).filter((kind) => kinds[kind]).join(" ") || null }, cells(row, scale, choose)), more];
}

function runsPage() {
  const recipes = [...new Set(content.rows.map((row) => row.recipe).filter(Boolean))].sort();
  const scale = whiskers();
  const body = h("tbody");
  const shown = h("p", { class: "count", role: "status" });
  const heads = new Map();
  const tray = h("div", { class: "tray", hidden: true, role: "status" });

  const choose = (run, box) => {
    board.chosen = board.chosen.filter((one) => one !== run);
    if (box.checked) board.chosen = [...board.chosen, run].slice(-2);
    for (const other of body.querySelectorAll("input[type=checkbox]"))
      other.checked = board.chosen.includes(other.closest("tr").dataset.run);
    for (const line of body.rows) line.classList.toggle("chosen", Boolean(line.dataset.run) && board.chosen.includes(line.dataset.run));
    drawTray();
  };
  const drawTray = () => {
    const [one, other] = board.chosen;
    tray.hidden = !one;
    tray.replaceChildren(h("span", { class: "names mono" }, other ? `${one} and ${other}` : one ? `${one}: choose another to compare it with` : ""));
    if (other) tray.append(h("a", { class: "button", href: address("compare", one, other) }, "Compare these two"));
    if (one) tray.append(h("button", { type: "button", class: "quiet", onclick: () => { board.chosen = []; draw(); } }, "Clear"));
  };
  const draw = () => {
    const rows = sorted(content.rows.filter(matches));
    body.replaceChildren(...rows.flatMap((row) => lineOf(row, scale, choose)).filter(Boolean));
    if (!rows.length) body.append(h("tr", {}, h("td", { colspan: 12, class: "none run" }, "No run is like that.")));
    shown.textContent = rows.length === content.rows.length ? many(rows.length, "run") : `${rows.length} of ${many(content.rows.length, "run")}`;
    for (const [id, head] of heads) {
      if (id === board.sort) head.setAttribute("aria-sort", board.way > 0 ? "ascending" : "descending");
      else head.removeAttribute("aria-sort");
    }
    order.value = board.sort;
    direction.textContent = board.way > 0 ? "↑ ascending" : "↓ descending";
    drawTray();
  };
  const sortBy = (column) => {
    board.way = board.sort === column.id ? -board.way : column.first;
    board.sort = column.id;
    draw();
  };
  const field = (name, label, attributes, extra = "") => h("label", { class: extra || null }, label, h("input", { ...attributes, value: board[name], oninput: (event) => { board[name] = event.target.value; draw(); } }));
  const order = h("select", { "aria-label": "Sort by", onchange: (event) => { const column = COLUMNS.find((one) => one.id === event.target.value); board.sort = column.id; board.way = column.first; draw(); } }, COLUMNS.map((column) => h("option", { value: column.id }, column.id === "rank" ? "Best first" : column.name)));
  const direction = h("button", { type: "button", onclick: () => { board.way = -board.way; draw(); } });

  const table = h("table", { class: "board" },
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, h("span", { class: "skip" }, "Choose")),
      COLUMNS.flatMap((column) => {
        const head = h("th", { scope: "col", class: [column.number && "number", column.kind, column.from].filter(Boolean).join(" ") || null }, h("button", { type: "button", onclick: () => sortBy(column) }, column.name));
        heads.set(column.id, head);
        return column.id === "dev" ? [head, h("th", { scope: "col", class: "whisker", "aria-hidden": "true" }, "error, log scale")] : [head];
      }))),
    body);
  const filters = h("form", { class: "filters", role: "search", onsubmit: (event) => event.preventDefault() },
    field("text", "Filter", { type: "search", placeholder: "run, recipe, note, commit", autocomplete: "off" }, "wide"),
    h("label", {}, "Recipe", h("select", { "aria-label": "Recipe", onchange: (event) => { board.recipe = event.target.value; draw(); } }, h("option", { value: "" }, "all"), recipes.map((name) => h("option", { value: name, selected: name === board.recipe }, name)))),
    field("from", "From", { type: "date" }), field("to", "To", { type: "date" }),
    h("label", { class: "sorting" }, "Sort by", order), h("div", { class: "sorting" }, h("span", {}, "Order"), direction),
    shown);
  draw();
  return {
    title: "Runs",
    nodes: [
      h("h1", { tabindex: -1 }, "Leaderboard"),
      h("p", { class: "lead" }, content.summary),
      content.remarks.length ? h("div", { class: "notice" }, h("ul", {}, content.remarks.map((remark) => h("li", {}, coded(remark))))) : null,
      filters, table, tray,
      scale && h("p", { class: "soft small", css: { "margin-top": "10px" } }, "Best is the highest public score; runs without one follow by their dev accuracy, ± its standard error. In the column of errors a dot is dev with ± 2 standard errors, a diamond the public score; further right is better."),
      surprisePlot(),
    ],
  };
}

// --- a run

const keyOf = (run) => told[run].judged && told[run].judged.key; // which images it is judged on

const fact = (name, value, small) => value !== null && value !== undefined && h("div", {}, h("dt", {}, name), h("dd", {}, value, small && [" ", h("small", {}, small)]));
function problems(run) {
  const one = told[run];
  return [
    one.wrong.length ? h("div", { class: "notice", role: "note" }, h("ul", {}, one.wrong.map((text) => h("li", {}, coded(text))))) : null,
    one.missing.length ? h("p", { class: "soft", css: { "margin-top": "14px" } }, `Not here: ${one.missing.join("; ")}. Git keeps only run.json and submission.csv; the rest is where the run was trained.`) : null,
  ];
}

function confusionTable(counts) {
  const most = Math.max(1, ...counts.flatMap((line, label) => line.filter((_, digit) => digit !== label)));
  return h("table", { class: "confusion" },
    h("caption", {}, "Rows are labels, columns predictions; mistakes are coloured."),
    h("thead", {}, h("tr", {}, h("td", {}), counts.map((_, digit) => h("th", { scope: "col" }, digit)))),
    h("tbody", {}, counts.map((line, label) => h("tr", {}, h("th", { scope: "row" }, label),
      line.map((value, digit) => h("td", {
        class: digit === label ? "hit" : null,
        css: digit !== label && value ? { background: `rgba(var(--red-wash), ${(0.12 + (0.4 * value) / most).toFixed(2)})` } : null,
        title: digit === label ? `${value} of label ${label} right` : `label ${label} predicted ${digit}: ${value}`,
      }, value || ""))))));
}
function digitBars(digits) {
  const shares = digits.map(([right, images]) => (images ? 1 - right / images : 0));
  const most = Math.max(...shares) || 1;
  return h("table", { class: "bars" },
    h("caption", {}, "Bars are errors, the longest the digit with most."),
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "digit"), h("th", { scope: "col" }), h("th", { scope: "col", class: "number" }, "accuracy"), h("th", { scope: "col", class: "number" }, "wrong"))),
    h("tbody", {}, digits.map(([right, images, text], k) => h("tr", {}, h("th", { scope: "row" }, k),
      h("td", { class: "bar" }, h("i", { css: { width: `${(100 * shares[k]) / most}%`, visibility: shares[k] ? "visible" : "hidden" } })),
      h("td", { class: "number" }, text), h("td", { class: "number" }, `${images - right} of ${count(images)}`)))));
}
function madeOf(one, row) {
  const { settings } = one;
  const rows = [
    ["recipe", [row.recipe, one.description].filter(Boolean).join(": ")],
    ["judged on", one.split], ["data", one.data],
    ["code", one.code.commit ? `commit ${one.code.commit.slice(0, 12)}${one.code.dirty ? ", with changes that were not committed" : ""}` : null],
    ["machine", [one.machine.processor, one.machine.cores && `${one.machine.cores} cores`, one.machine.system, one.machine.python && `Python ${one.machine.python}`, one.machine.blas].filter(Boolean).join(", ")],
    ["versions", Object.entries(one.versions || {}).map(([name, value]) => `${name} ${value}`).join(", ")],
    ...Object.entries(settings || {}).filter(([name]) => name !== "network").map(([name, words]) => [`[${name}]`, words.join(" ")]),
    ["as by default", Object.entries(settings || {}).filter(([, words]) => !words.length).map(([name]) => `[${name}]`).join(", ")],
  ];
  return h("section", {}, h("h2", {}, "What it is made of"),
    h("dl", { class: "made" }, rows.filter(([, value]) => value).map(([name, value]) => [h("dt", {}, name), h("dd", { class: name.startsWith("[") ? "mono" : null }, value)])),
    settings && settings.network.length ? [h("h3", {}, "Layers"), h("ol", { class: "layers mono", start: 0 }, settings.network.map((line) => h("li", {}, line)))] : null);
}
function submissionsTable(row) {
  if (!row.submissions.length) return null;
  return h("section", {}, h("h2", {}, "Submissions"), h("div", { class: "stack-small" }, h("table", {},
    h("thead", {}, h("tr", {}, ["date", "public score", "status", "message"].map((head) => h("th", { scope: "col" }, head)))),
    h("tbody", {}, row.submissions.map((one) => h("tr", {}, h("td", { class: "still" }, day(one.date)), h("td", {}, one.public === null ? "–" : one.public.toFixed(5)), h("td", {}, one.status), h("td", { css: { "overflow-wrap": "anywhere" } }, one.message)))))));
}

function runPage(run) {
  const one = told[run], row = rowOf.get(run);
  if (!one) return unknown(run);
  const others = content.rows.filter((other) => other.told && other.run !== run);
  const nodes = [
    h("h1", { tabindex: -1, class: "id" }, run),
    h("p", { class: "lead" }, [`${row.recipe}, seed ${row.seed}`, one.description, day(row.date)].filter(Boolean).join(" · "), row.status !== "finished" && [" ", h("span", { class: "badge" + (row.status === "failed" ? " bad" : "") }, row.status)], row.sample && [" ", h("span", { class: "badge" }, "sample data")]),
    row.note && h("p", {}, row.note),
    h("dl", { class: "facts" },
      row.dev && fact("Dev accuracy", percent(row.dev.accuracy), `± ${(100 * row.dev.error).toFixed(2)}`),
      row.dev && fact("Wrong", count(row.dev.images - row.dev.correct), `of ${count(row.dev.images)}`),
      fact("Public score", row.public === null ? null : row.public.toFixed(5), row.gap && `gap ${points(row.gap.value)} ± ${(100 * row.gap.error).toFixed(2)}`),
      one.train && fact("Train accuracy", percent(one.train.accuracy)),
      one.calibration && fact("Calibration error", (100 * one.calibration.error).toFixed(2), "points"),
      fact("Parameters", one.parameters === null ? null : count(one.parameters)),
      fact("Training", row.seconds === null ? null : time(row.seconds))),
    problems(run),
    others.length ? h("p", { css: { "margin-top": "18px" } }, h("a", { href: address("compare", (others.find((other) => keyOf(other.run) && keyOf(other.run) === keyOf(run)) || others[0]).run, run) }, "Compare it with another run")) : null,
  ];
  if (one.curves) {
    const { unit, loss, error } = one.curves;
    nodes.push(h("section", {}, h("h2", {}, "Learning curves"),
      one.members.length && loss.length > 2 ? h("p", { class: "soft" }, "Each line is a member, on the images that it holds out.") : h("p", { class: "soft" }, "The training’s loss and error are those of its batches while it learns, on augmented images."),
      h("div", { class: "pair" }, loss.length ? lines("cross-entropy", unit, loss) : null, error.length ? lines("error, %", unit, error) : null),
      numbers("The curves as a table", [unit, ...loss.map((line) => `loss, ${line.name}`), ...error.map((line) => `error, ${line.name}`)],
        [...new Set([...loss, ...error].flatMap((line) => line.x))].sort((a, b) => a - b).map((x) => [plain(x), ...[...loss, ...error].map((line) => (line.x.includes(x) ? plain(line.y[line.x.indexOf(x)]) : ""))]))));
  }
  const weighed = one.members.some((member) => member.weight !== null);
  if (one.members.length)
    nodes.push(h("section", {}, h("h2", {}, "Members"), h("div", { class: "stack-small" }, h("table", {},
      h("thead", {}, h("tr", {}, ["", "seed", "held out", weighed && "weight", "accuracy on it", "time"].filter((head) => head !== false).map((head, k) => h("th", { scope: "col", class: k > 2 ? "number" : null }, head)))),
      h("tbody", {}, one.members.map((member, k) => h("tr", {}, h("th", { scope: "row" }, told[member.run] ? h("a", { href: address("run", member.run), class: "mono" }, member.run) : member.run || k), h("td", {}, member.seed), h("td", {}, member.split), weighed && h("td", { class: "number" }, member.weight === null ? "–" : short(member.weight)), h("td", { class: "number" }, member.dev ? member.dev.text : member.status), h("td", { class: "number" }, time(member.seconds))))))),
      h("p", { class: "soft small" }, / in its turn/.test(one.split) ? "The dev score of the whole is out of fold: each image is judged by the members that did not train on it." : null)));
  if (one.confusion)
    nodes.push(
      h("section", { class: "pair" }, h("div", {}, h("h2", {}, "Confusion matrix"), confusionTable(one.confusion)), h("div", {}, h("h2", {}, "Accuracy of each digit"), digitBars(one.digits))),
      h("section", {}, h("h2", {}, "Calibration"), reliability(one)),
      h("section", {}, h("h2", {}, "Worst mistakes"),
        one.mistakes.length ? [h("p", {}, `${many(one.judged.wrong, "held-out image")} predicted wrong${one.judged.wrong > one.mistakes.length ? `, the ${one.mistakes.length} surest of them here` : ", the surest first"}.`), key(), noPictures(), gallery(one.mistakes.map(card))] : h("p", { class: "soft" }, "None: every held-out image is predicted right.")),
      h("section", {}, h("h2", {}, "Labels in doubt"),
        h("p", {}, one.doubted ? `Confident learning puts ${many(one.doubted, "label")} of ${count(one.judged.images)} in doubt${one.doubted > one.doubts.length ? `, the clearest ${one.doubts.length} here` : ""}.` : `Confident learning puts none of the ${count(one.judged.images)} labels in doubt.`,
          " ", h("a", { href: "#/labels" }, "All runs together"), " see more than one."),
        method(), one.doubts.length ? gallery(one.doubts.map(card)) : null));
  nodes.push(submissionsTable(row), madeOf(one, row));
  return { title: run, nodes };
}
const method = () => h("p", { class: "soft small" }, "An image’s label is in doubt where the network, which never trained on that image, is at least as sure of another digit as it is, on average, of images labelled so (Northcutt, Jiang and Chuang 2021, “Confident learning”, arXiv 1911.00068). That can’t tell a wrong label from an image that is hard to read: look at each. No label is changed.");
const unknown = (run) => ({ title: "Not here", nodes: [h("h1", { tabindex: -1 }, "Not here"), h("p", {}, rowOf.has(run) ? rowOf.get(run).problem || "There are no details of this run in this report." : `This report has no run ${run}.`), h("p", {}, h("a", { href: "#/" }, "All runs"))] });

// --- labels

function labelsPage() {
  const pooled = content.labels;
  const nodes = [h("h1", { tabindex: -1 }, "Labels in doubt")];
  if (!pooled) nodes.push(h("p", { class: "lead" }, "No run here has its dev.npz, the probabilities of held-out images, from which doubts about labels come."));
  else {
    nodes.push(
      h("p", { class: "lead" }, `${many(pooled.runs, "run")} together held out ${count(pooled.images)} labelled images. Of their mean probabilities, ${pooled.doubted ? `confident learning puts ${many(pooled.doubted, "label")} in doubt, shown first; then follow` : "confident learning puts no label in doubt; these are"} the images that speak most against their labels.`),
      method(),
      h("p", { class: "soft small" }, "Each image is judged only by the runs that held it out: under it is how many of them predict another digit than the label. Runs with more than twice the least error are not asked."),
      key(), noPictures(), gallery(pooled.cards.map(card)));
  }
  return { title: "Labels in doubt", nodes };
}

// --- comparing two runs

function mistakesOf(run) {
  const { steps, labels, predicted, sure } = told[run].listed;
  const found = new Map();
  let row = 0;
  steps.forEach((step, k) => {
    row += step;
    found.set(row, { row, label: Number(labels[k]), predicted: Number(predicted[k]), sure: sure[k] });
  });
  return found;
}
function whyNot(a, b) {
  if (a === b) return "These are the same run: choose another.";
  for (const run of [a, b])
    if (!keyOf(run)) return `${run} has no held-out predictions here (${told[run].missing.length ? "dev.npz is not here" : told[run].wrong[0] || (rowOf.get(run).status === "finished" ? "it held out none" : rowOf.get(run).status)}), so its mistakes can’t be set beside another’s.`;
  if (keyOf(a) !== keyOf(b))
    return `They were judged on different images (A: ${told[a].split}; B: ${told[b].split}), so a difference would be one of the images as much as of the networks. Compare runs with the same split of the same data.`;
  for (const run of [a, b]) if (!told[run].listed) return `${run} has too many mistakes to be listed here: \`digits compare ${a} ${b}\` compares them.`;
  return null;
}
function exclusive(mine, theirs, who, other) {
  const found = [...theirs.values()].filter((one) => !mine.has(one.row)).sort((one, two) => two.sure - one.sure);
  return h("section", {}, h("h2", {}, h("span", { class: who === "A" ? "key-a" : "key-b" }, `Only ${who} has these right`), ` (${count(found.length)})`),
    found.length ? gallery(found.slice(0, 40).map((one) => h("li", {}, tile(one.row, `image in row ${one.row} of train.csv, labelled ${one.label}, which ${other} predicted as ${one.predicted}`),
      said([`${other} says`, one.predicted, `${one.sure}%`, "wrong"], ["label", one.label, "", "right"]), h("div", { class: "where" }, `#${one.row}`)))) : h("p", { class: "soft" }, "None."),
    found.length > 40 ? h("p", { class: "soft small" }, `The 40 of which ${other} is surest.`) : null);
}
function interval(difference, low, high) {
  return chart(`Difference ${points(difference)} points, 95 % interval ${points(low)} to ${points(high)}`, 74, (svg, width) => {
    const reach = 1.15 * Math.max(Math.abs(low), Math.abs(high), 0.0002), left = 8, right = Math.min(width - 8, 620);
    const x = linear(-reach, reach, left, right);
    svg.append(s("line", { class: "grid", x1: left, x2: right, y1: 24, y2: 24 }), s("line", { class: "axis", x1: x(0), x2: x(0), y1: 8, y2: 40, "stroke-dasharray": "3 3" }));
    const colour = low > 0 ? "var(--red)" : high < 0 ? "var(--blue)" : "var(--soft)";
    svg.append(s("line", { x1: x(low), x2: x(high), y1: 24, y2: 24, css: { stroke: colour, "stroke-width": 5, "stroke-linecap": "round", opacity: 0.45 } }), s("circle", { cx: x(difference), cy: 24, r: 6, css: { fill: colour } }));
    for (const value of ticks(-reach, reach, 6)) svg.append(s("text", { x: x(value), y: 56, "text-anchor": "middle" }, value === 0 ? "0" : points(value)));
    svg.append(s("text", { x: left, y: 72 }, "← A is better"), s("text", { x: right, y: 72, "text-anchor": "end" }, "B is better →"));
  });
}
function sideBySide(a, b) {
  const words = (run) => {
    const one = told[run], row = rowOf.get(run);
    const settings = one.settings ? Object.entries(one.settings).map(([name, list]) => [name === "network" ? name : `[${name}]`, list]) : [];
    return new Map([
      ["recipe", row.recipe], ["seed", row.seed], ["dev accuracy", row.dev ? row.dev.text : "–"], ["public score", row.public === null ? "–" : row.public.toFixed(5)],
      ["train accuracy", one.train ? one.train.text : "–"], ["calibration error", one.calibration ? `${(100 * one.calibration.error).toFixed(2)} points` : "–"],
      ["parameters", one.parameters === null ? "–" : count(one.parameters)], ["time", time(row.seconds)], ["judged on", one.split || "–"], ["commit", row.commit || "–"], ...settings,
    ]);
  };
  const left = words(a), right = words(b);
  const names = [...new Set([...left.keys(), ...right.keys()])];
  const always = new Set(["recipe", "seed", "dev accuracy", "public score", "train accuracy", "calibration error", "parameters", "time"]);
  const shown = names.filter((name) => always.has(name) || String(left.get(name)) !== String(right.get(name)));
  const same = names.filter((name) => !shown.includes(name));
  return h("section", {}, h("h2", {}, "Side by side"), h("table", { class: "side" },
    h("thead", {}, h("tr", {}, h("td", {}), h("th", { scope: "col", class: "key-a" }, "A"), h("th", { scope: "col", class: "key-b" }, "B"))),
    h("tbody", {}, shown.map((name) => {
      const sides = [left, right].map((side) => (side.has(name) ? side.get(name) : "–"));
      const cell = (mine, theirs) => Array.isArray(mine)
        ? h("td", { class: "mono" }, mine.length ? mine.map((word, at) => [at ? ", " : "", Array.isArray(theirs) && theirs.includes(word) ? word : h("b", {}, word)]) : "as by default")
        : h("td", {}, mine === theirs ? String(mine) : h("b", {}, mine));
      return h("tr", {}, h("th", { scope: "row" }, name), cell(sides[0], sides[1]), cell(sides[1], sides[0]));
    }))), same.length ? h("p", { class: "soft small", css: { "margin-top": "8px" } }, `The same in both: ${same.join(", ")}.`) : null);
}

function comparePage(a, b) {
  const able = content.rows.filter((row) => row.told);
  const nodes = [h("h1", { tabindex: -1 }, "Compare two runs")];
  if (able.length < 2) return { title: "Compare", nodes: [...nodes, h("p", { class: "lead" }, "There are not two runs here to compare.")] };
  const judged = able.filter((row) => keyOf(row.run));
  a = a || (judged[0] || able[0]).run;
  b = b || (judged.find((row) => row.run !== a && keyOf(row.run) === (told[a] && keyOf(a))) || able.find((row) => row.run !== a)).run;
  if (!told[a] || !told[b]) return unknown(told[a] ? b : a);
  const pick = (name, chosen, go) => h("label", {}, h("b", { class: `key-${name.toLowerCase()}` }, name), h("select", { "aria-label": `Run ${name}`, onchange: (event) => go(event.target.value) },
    able.map((row) => h("option", { value: row.run, selected: row.run === chosen }, row.run + (row.dev ? `  ${percent(row.dev.accuracy)}` : "")))));
  const go = (one, other) => { keepFocus = true; location.hash = address("compare", one, other); };
  nodes.push(h("div", { class: "choose" }, pick("A", a, (run) => go(run, b)), h("button", { type: "button", class: "quiet", onclick: () => go(b, a), "aria-label": "Exchange A and B" }, "⇄"), pick("B", b, (run) => go(a, run))));
  const reason = whyNot(a, b);
  if (reason) nodes.push(h("p", { class: "notice", role: "status" }, coded(reason)));
  else {
    const mine = mistakesOf(a), theirs = mistakesOf(b);
    const both = [...mine.keys()].filter((row) => theirs.has(row)).length;
    const onlyA = theirs.size - both, onlyB = mine.size - both, images = told[a].judged.images;
    const swap = onlyA > onlyB;
    const [value, low, high, p, words] = content.pairs[[Math.min(onlyA, onlyB), Math.max(onlyA, onlyB), images].join(" ")];
    const [difference, from, to] = swap ? [-value, -high, -low] : [value, low, high];
    const [better, other] = swap ? ["A", "B"] : ["B", "A"];
    const verdict = words ? words.replaceAll("@better", better).replaceAll("@other", other) + "." : !difference ? "They have equally many right." : `${better} is better by ${Math.abs(100 * difference).toFixed(2)} points: ${p < 0.05 ? "more than chance" : "could well be noise"}.`;
    nodes.push(h("p", { class: "verdict", role: "status" }, verdict),
      h("p", { class: "soft", css: { "margin-top": "8px" } }, `On ${count(images)} images that both held out, B less A is ${points(difference)} points, 95 % interval ${points(from)} to ${points(to)}; McNemar’s exact test gives p = ${p < 0.001 ? p.toExponential(1) : p.toFixed(3)}. This is of these two trainings: another seed moves the score too, and of twenty pairs that are equal one looks different at p < 0.05.`),
      h("div", { class: "pair", css: { "margin-top": "20px" } }, interval(difference, from, to), h("table", { class: "fourfold" },
        h("thead", {}, h("tr", {}, h("td", {}), h("th", { scope: "col", class: "number" }, "B right"), h("th", { scope: "col", class: "number" }, "B wrong"))),
        h("tbody", {}, h("tr", {}, h("th", { scope: "row" }, "A right"), h("td", {}, count(images - both - onlyA - onlyB)), h("td", {}, count(onlyA))), h("tr", {}, h("th", { scope: "row" }, "A wrong"), h("td", {}, count(onlyB)), h("td", {}, count(both)))))),
      noPictures(), exclusive(mine, theirs, "A", "B"), exclusive(theirs, mine, "B", "A"));
  }
  const curves = [a, b].map((run) => told[run].curves);
  if (curves.every((one) => one && one.error.some((line) => line.who === "dev")) && curves[0].unit === curves[1].unit && !told[a].members.length && !told[b].members.length) {
    const of = (name, at, kind) => ({ ...curves[at][kind].find((line) => line.who === "dev"), name, who: name.toLowerCase() });
    nodes.push(h("section", {}, h("h2", {}, "Learning curves, dev"), h("div", { class: "pair" }, ["loss", "error"].map((kind) => curves.every((one) => one[kind].some((line) => line.who === "dev")) && lines(kind === "loss" ? "cross-entropy" : "error, %", curves[0].unit, [of("A", 0, kind), of("B", 1, kind)])))));
  }
  nodes.push(sideBySide(a, b));
  nodes.push(h("p", { css: { "margin-top": "18px" } }, h("a", { href: address("run", a) }, "All of A"), " · ", h("a", { href: address("run", b) }, "All of B")));
  return { title: "Compare", nodes };
}

// --- which page is shown

let keepFocus = false, last = null;
function route() {
  const [page, ...rest] = location.hash.replace(/^#\/?/, "").split("/").map((part) => { try { return decodeURIComponent(part); } catch { return part; } });
  if (last === "runs") board.scroll = scrollAt;
  drawn.clear();
  const made = page === "run" ? runPage(rest[0]) : page === "compare" ? comparePage(rest[0], rest[1]) : page === "labels" ? labelsPage() : runsPage();
  const held = keepFocus && document.activeElement && document.activeElement.getAttribute("aria-label");
  main.replaceChildren(...made.nodes.flat(3).filter(Boolean));
  drawn.forEach((redraw) => redraw());
  document.title = `${made.title} · digits`;
  const name = ["run", "compare", "labels"].includes(page) ? page : "runs";
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.page === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (held) main.querySelector(`[aria-label="${held}"]`)?.focus({ preventScroll: true });
  else {
    if (last !== null) main.querySelector("h1")?.focus({ preventScroll: true });
    scrollTo(0, name === "runs" && last !== null ? board.scroll : 0);
  }
  keepFocus = false;
  last = name;
}
let scrollAt = 0;
addEventListener("scroll", () => { if (last === "runs" && !/^#\/(run|compare|labels)/.test(location.hash)) scrollAt = scrollY; }, { passive: true });
addEventListener("hashchange", route);
addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || event.defaultPrevented || event.target.matches("input[type=search], select")) return;
  if (last !== "runs") location.hash = "#/";
});

// --- light and dark

const themeButton = document.getElementById("theme");
const dark = matchMedia("(prefers-color-scheme: dark)");
const remembered = () => { try { return localStorage.getItem("digits-theme"); } catch { return null; } };
function paint() {
  const theme = remembered() || (dark.matches ? "dark" : "light");
  document.documentElement.dataset.theme = theme;
  themeButton.textContent = theme === "dark" ? "Light" : "Dark";
  themeButton.setAttribute("aria-label", theme === "dark" ? "Show the report light" : "Show the report dark");
}
themeButton.addEventListener("click", () => {
  const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  try { localStorage.setItem("digits-theme", next); } catch { /* then it is not remembered */ }
  paint();
  if (document.documentElement.dataset.theme !== next) document.documentElement.dataset.theme = next;
});
dark.addEventListener("change", paint);

document.getElementById("foot").textContent = content.foot;
paint();
route();
