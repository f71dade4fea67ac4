// Charts, as SVG: each is drawn at the width that it has, and again when that changes.

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
    const left = 44,
      right = width - (curves.length > 2 ? 12 : 84),
      top = 26,
      bottom = height - 40;
    const positive = curves.flatMap((curve) => curve.y).filter((value) => value > 0);
    const least = Math.min(...positive),
      most = Math.max(...positive);
    const zero = curves.some((curve) => curve.y.some((value) => value <= 0));
    const floor = positive.length ? least / (zero ? 2 : 1.15) : 0.5,
      roof = positive.length ? most * 1.1 : 1;
    const y = log(floor, roof, bottom, top);
    const xs = curves.flatMap((curve) => curve.x);
    const x = linear(Math.min(...xs), Math.max(...xs), left, right);
    yAxis(svg, y, logTicks(floor, roof), left, right, title);
    xAxis(
      svg,
      x,
      ticks(Math.min(...xs), Math.max(...xs), Math.max(2, Math.min(8, width / 80))).filter((v) => v % 1 === 0),
      bottom,
      unit,
      right,
    );
    svg.append(s("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }));
    const ends = [];
    curves.forEach((curve) => {
      const at = curve.y.map((value) => y(Math.max(value, floor)));
      const colour = COLOURS[curve.who];
      svg.append(
        s("polyline", {
          class: "wire",
          points: curve.x.map((value, k) => `${x(value)},${at[k]}`).join(" "),
          css: { stroke: colour, opacity: curves.length > 2 ? 0.6 : 1 },
        }),
      );
      if (curve.x.length < 40)
        curve.x.forEach((value, k) =>
          svg.append(s("circle", { cx: x(value), cy: at[k], r: 2, css: { fill: colour } })),
        );
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
        svg.append(
          s(
            "text",
            { class: "name", x: right + 7, y: end.y + 4, css: { fill: end.colour } },
            `${end.curve.name} ${short(end.curve.y[end.curve.y.length - 1])}`,
          ),
        );
    }
  });
}

function reliability(told) {
  const { bins, error, confidence, accuracy } = told.calibration;
  const { images } = told.judged;
  const way =
    Math.abs(confidence - accuracy) < 0.005
      ? "about as sure as it is right"
      : confidence < accuracy
        ? "less sure than it is right"
        : "surer than it is right";
  return h(
    "div",
    { class: "pair" },
    chart(
      `Reliability diagram: accuracy against confidence in ${bins.length} bins, expected calibration error ${(100 * error).toFixed(2)} points`,
      280,
      (svg, width, height) => {
        const left = 44,
          bottom = height - 40,
          top = 26,
          right = width - 12;
        const x = linear(0, 100, left, right),
          y = linear(0, 100, bottom, top);
        yAxis(svg, y, [0, 25, 50, 75, 100], left, right, "accuracy, %");
        xAxis(svg, x, [0, 25, 50, 75, 100], bottom, "confidence, %", right);
        svg.append(
          s("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }),
          s("line", { class: "axis", x1: x(0), y1: y(0), x2: x(100), y2: y(100), "stroke-dasharray": "4 4" }),
        );
        for (const [inside, sure, hits] of bins)
          svg.append(
            s("line", {
              x1: x(100 * sure),
              x2: x(100 * sure),
              y1: y(100 * sure),
              y2: y(100 * hits),
              css: { stroke: "var(--red)", "stroke-width": 1.5 },
            }),
            s(
              "circle",
              {
                cx: x(100 * sure),
                cy: y(100 * hits),
                r: 3 + 7 * Math.sqrt(inside / images),
                css: { fill: "var(--blue)", "fill-opacity": 0.75, stroke: "var(--paper)" },
              },
              s("title", {}, `${many(inside, "image")}: ${percent(sure, 1)} sure, ${percent(hits, 1)} right`),
            ),
          );
      },
    ),
    h(
      "div",
      {},
      h(
        "p",
        {},
        `On average the run is ${percent(confidence, 1)} sure and right ${percent(accuracy, 1)} of the time: ${way}. The expected calibration error is ${(100 * error).toFixed(2)} points.`,
      ),
      h(
        "p",
        { class: "soft small" },
        "A dot is the images whose confidence, the probability of the digit predicted, is in one of 15 equal intervals; its area grows with their number. On the dashed line confidence is accuracy; the red lines are how far off it is (Guo et al. 2017, “On calibration of modern neural networks”, arXiv 1706.04599).",
      ),
      numbers(
        "The bins as a table",
        ["confidence", "accuracy", "images"],
        bins.map((bin) => [percent(bin[1], 1), percent(bin[2], 1), count(bin[0])]),
      ),
    ),
  );
}

function numbers(title, heads, rows) {
  return h(
    "details",
    {},
    h("summary", {}, title),
    h(
      "div",
      { class: "scroll", tabindex: 0, role: "group", "aria-label": title },
      h(
        "table",
        {},
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            heads.map((head) => h("th", { scope: "col", class: "number" }, head)),
          ),
        ),
        h(
          "tbody",
          {},
          rows.map((row) =>
            h(
              "tr",
              {},
              row.map((cell) => h("td", { class: "number" }, cell)),
            ),
          ),
        ),
      ),
    ),
  );
}

function surprisePlot() {
  const { points: all, images, scored, low, high, band } = content.plot;
  const section = h("section", {}, h("h2", {}, "Dev against public score"));
  if (!all.length) {
    section.append(
      h(
        "p",
        { class: "soft" },
        coded(
          "No run here has both a dev score and a public one yet: `digits submit` gets one, and `digits leaderboard --sync` reads those that Kaggle has.",
        ),
      ),
    );
    return section;
  }
  const odd = all.filter((point) => point.surprise);
  section.append(
    h(
      "div",
      { class: "pair wide-left" },
      chart(
        `Dev accuracy against public score of ${many(all.length, "run")}, ${odd.length} of them outside the band of no surprise`,
        340,
        (svg, width, height) => {
          const left = 54,
            right = width - 10,
            top = 26,
            bottom = height - 42;
          const x = linear(low, high, left, right),
            y = linear(low, high, bottom, top);
          const clip = (value) => Math.min(Math.max(value, low), high);
          const format = (value) => (100 * value).toFixed(high - low < 0.02 ? 2 : 1).replace(/\.?0+$/, "");
          yAxis(svg, y, ticks(low, high, 6), left, right, "public score, %", format);
          xAxis(
            svg,
            x,
            ticks(low, high, Math.max(2, Math.min(8, width / 90))),
            bottom,
            "dev accuracy, %",
            right,
            format,
          );
          const upper = band.map(([value, wide]) => `${x(value)},${y(clip(value + wide))}`);
          const lower = band.map(([value, wide]) => `${x(value)},${y(clip(value - wide))}`).reverse();
          svg.append(
            s("polygon", { class: "band", points: [...upper, ...lower].join(" ") }),
            s("line", { class: "axis", x1: x(low), y1: y(low), x2: x(high), y2: y(high), "stroke-dasharray": "4 4" }),
            s("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }),
          );
          for (const point of all) {
            const colour = point.surprise ? "var(--red)" : "var(--blue)";
            const link = s(
              "a",
              {
                href: address("run", point.run),
                tabindex: -1, // the picture is one thing to a keyboard; the table below has the links
              },
              s(
                "title",
                {},
                `${point.run}\ndev ${percent(point.dev)}, public ${percent(point.public, 3)}\ngap ${point.gap}`,
              ),
              s("line", {
                x1: x(clip(point.dev - point.devError)),
                x2: x(clip(point.dev + point.devError)),
                y1: y(point.public),
                y2: y(point.public),
                css: { stroke: colour, opacity: 0.5 },
              }),
              point.surprise
                ? s("path", { d: `M${x(point.dev)} ${y(point.public) - 6}l6 6l-6 6l-6-6z`, css: { fill: colour } })
                : s("circle", { cx: x(point.dev), cy: y(point.public), r: 4.5, css: { fill: colour } }),
            );
            svg.append(link);
          }
        },
      ),
      h(
        "div",
        {},
        h(
          "p",
          {},
          `On the line the public score is the dev score. The band is what chance alone does to it, ± 2 standard errors of the difference with ${count(images)} dev images and ${count(scored)} scored ones; `,
          odd.length
            ? `${many(odd.length, "run")} of ${all.length} ${odd.length === 1 ? "is" : "are"} further off than that.`
            : `${all.length === 1 ? "the one run is" : `all ${all.length} runs are`} within what chance does to them.`,
        ),
        h(
          "p",
          { class: "soft small" },
          "Whiskers are ± 1 standard error of the dev accuracy; a diamond is a run whose gap is more than 2 standard errors of its own. A public score far below the line says that the dev split was tuned to, far above it that test labels were known.",
        ),
        numbers(
          "The runs as a table",
          ["run", "dev", "public", "gap"],
          all.map((point) => [
            h("a", { href: address("run", point.run) }, point.run),
            percent(point.dev),
            percent(point.public, 3),
            point.gap,
          ]),
        ),
      ),
    ),
  );
  return section;
}
