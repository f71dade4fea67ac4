// Images of digits, and what a run says of them.

const placeOf = new Map(content.pictures ? content.pictures.rows.map((row, place) => [row, place]) : []);
function tile(row, label) {
  const place = placeOf.get(row);
  if (place === undefined)
    return h("div", { class: "tile empty", role: "img", "aria-label": label + ", not shown" }, "no image");
  const columns = content.pictures.columns;
  return h("div", {
    class: "tile",
    role: "img",
    "aria-label": label,
    css: { "background-position": `${-84 * (place % columns)}px ${-84 * Math.floor(place / columns)}px` },
  });
}
function ten(label, predicted, thousandths) {
  const svg = s("svg", {
    class: "ten",
    viewBox: "0 0 100 36",
    preserveAspectRatio: "none",
    role: "img",
    "aria-label": "probabilities: " + thousandths.map((p, k) => `${k} ${(p / 10).toFixed(1)}%`).join(", "),
  });
  thousandths.forEach((p, k) => {
    const tall = Math.max((p / 1000) * 34, p > 0 ? 0.8 : 0);
    svg.append(
      s("rect", { x: k * 10 + 1.5, y: 0, width: 7, height: 36, css: { fill: "var(--line)", opacity: 0.55 } }),
      s(
        "rect",
        {
          x: k * 10 + 1.5,
          y: 36 - tall,
          width: 7,
          height: tall,
          css: { fill: k === label ? "var(--blue)" : k === predicted ? "var(--red)" : "var(--soft)" },
        },
        s("title", {}, `${k}: ${(p / 10).toFixed(1)}%`),
      ),
    );
  });
  return svg;
}
function best(thousandths) {
  return thousandths.indexOf(Math.max(...thousandths));
}
function card([row, label, thousandths, against, asked]) {
  const predicted = best(thousandths);
  const sure = (thousandths[predicted] / 10).toFixed(0),
    own = (thousandths[label] / 10).toFixed(0);
  return h(
    "li",
    {},
    tile(row, `image in row ${row} of train.csv, labelled ${label}, predicted ${predicted}`),
    said(["says", predicted, `${sure}%`, predicted === label ? null : "wrong"], ["label", label, `${own}%`, "right"]),
    ten(label, predicted, thousandths),
    h("div", { class: "where" }, `#${row}`, asked ? ` · ${against} of ${many(asked, "run")}` : ""),
  );
}
const said = (...rows) =>
  h(
    "table",
    { class: "said" },
    h(
      "tbody",
      {},
      rows.map(([name, digit, sure, kind]) =>
        h(
          "tr",
          { class: kind },
          h("th", { scope: "row" }, name),
          h("td", {}, h("b", {}, digit)),
          h("td", { class: "number" }, sure),
        ),
      ),
    ),
  );
const gallery = (cards) => h("ul", { class: "gallery" }, cards);
const key = () =>
  h(
    "p",
    { class: "soft small" },
    "Bars are the probabilities of 0 to 9: ",
    h("span", { class: "key-a" }, "blue the label"),
    ", ",
    h("span", { class: "key-b" }, "red the prediction"),
    coded(". # is the row of train.csv, from 0: `digits show RUN --index` shows it."),
  );
const noPictures = () => (content.pictures ? null : h("p", { class: "notice" }, coded(content.notice)));
