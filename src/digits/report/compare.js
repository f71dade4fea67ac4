// Two runs compared.

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
    if (!keyOf(run))
      return `${run} has no held-out predictions here (${told[run].missing.length ? "dev.npz is not here" : told[run].wrong[0] || (rowOf.get(run).status === "finished" ? "it held out none" : rowOf.get(run).status)}), so its mistakes can’t be set beside another’s.`;
  if (keyOf(a) !== keyOf(b))
    return `They were judged on different images (A: ${told[a].split}; B: ${told[b].split}), so a difference would be one of the images as much as of the networks. Compare runs with the same split of the same data.`;
  for (const run of [a, b])
    if (!told[run].listed)
      return `${run} has too many mistakes to be listed here: \`digits compare ${a} ${b}\` compares them.`;
  return null;
}
function exclusive(mine, theirs, who, other) {
  const found = [...theirs.values()].filter((one) => !mine.has(one.row)).sort((one, two) => two.sure - one.sure);
  return h(
    "section",
    {},
    h(
      "h2",
      {},
      h("span", { class: who === "A" ? "key-a" : "key-b" }, `Only ${who} has these right`),
      ` (${count(found.length)})`,
    ),
    found.length
      ? gallery(
          found
            .slice(0, 40)
            .map((one) =>
              h(
                "li",
                {},
                tile(
                  one.row,
                  `image in row ${one.row} of train.csv, labelled ${one.label}, which ${other} predicted as ${one.predicted}`,
                ),
                said([`${other} says`, one.predicted, `${one.sure}%`, "wrong"], ["label", one.label, "", "right"]),
                h("div", { class: "where" }, `#${one.row}`),
              ),
            ),
        )
      : h("p", { class: "soft" }, "None."),
    found.length > 40 ? h("p", { class: "soft small" }, `The 40 of which ${other} is surest.`) : null,
  );
}
function interval(difference, low, high) {
  return chart(
    `Difference ${points(difference)} points, 95 % interval ${points(low)} to ${points(high)}`,
    74,
    (svg, width) => {
      const reach = 1.15 * Math.max(Math.abs(low), Math.abs(high), 0.0002),
        left = 8,
        right = Math.min(width - 8, 620);
      const x = linear(-reach, reach, left, right);
      svg.append(
        s("line", { class: "grid", x1: left, x2: right, y1: 24, y2: 24 }),
        s("line", { class: "axis", x1: x(0), x2: x(0), y1: 8, y2: 40, "stroke-dasharray": "3 3" }),
      );
      const colour = low > 0 ? "var(--red)" : high < 0 ? "var(--blue)" : "var(--soft)";
      svg.append(
        s("line", {
          x1: x(low),
          x2: x(high),
          y1: 24,
          y2: 24,
          css: { stroke: colour, "stroke-width": 5, "stroke-linecap": "round", opacity: 0.45 },
        }),
        s("circle", { cx: x(difference), cy: 24, r: 6, css: { fill: colour } }),
      );
      for (const value of ticks(-reach, reach, 6))
        svg.append(s("text", { x: x(value), y: 56, "text-anchor": "middle" }, value === 0 ? "0" : points(value)));
      svg.append(
        s("text", { x: left, y: 72 }, "← A is better"),
        s("text", { x: right, y: 72, "text-anchor": "end" }, "B is better →"),
      );
    },
  );
}
function sideBySide(a, b) {
  const words = (run) => {
    const one = told[run],
      row = rowOf.get(run);
    const settings = one.settings
      ? Object.entries(one.settings).map(([name, list]) => [name === "network" ? name : `[${name}]`, list])
      : [];
    return new Map([
      ["recipe", row.recipe],
      ["seed", row.seed],
      ["dev accuracy", row.dev ? row.dev.text : "–"],
      ["public score", row.public === null ? "–" : row.public.toFixed(5)],
      ["train accuracy", one.train ? one.train.text : "–"],
      ["calibration error", one.calibration ? `${(100 * one.calibration.error).toFixed(2)} points` : "–"],
      ["parameters", one.parameters === null ? "–" : count(one.parameters)],
      ["time", time(row.seconds)],
      ["judged on", one.split || "–"],
      ["commit", row.commit || "–"],
      ...settings,
    ]);
  };
  const left = words(a),
    right = words(b);
  const names = [...new Set([...left.keys(), ...right.keys()])];
  const always = new Set([
    "recipe",
    "seed",
    "dev accuracy",
    "public score",
    "train accuracy",
    "calibration error",
    "parameters",
    "time",
  ]);
  const shown = names.filter((name) => always.has(name) || String(left.get(name)) !== String(right.get(name)));
  const same = names.filter((name) => !shown.includes(name));
  return h(
    "section",
    {},
    h("h2", {}, "Side by side"),
    h(
      "table",
      { class: "side" },
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          h("td", {}),
          h("th", { scope: "col", class: "key-a" }, "A"),
          h("th", { scope: "col", class: "key-b" }, "B"),
        ),
      ),
      h(
        "tbody",
        {},
        shown.map((name) => {
          const sides = [left, right].map((side) => (side.has(name) ? side.get(name) : "–"));
          const cell = (mine, theirs) =>
            Array.isArray(mine)
              ? h(
                  "td",
                  { class: "mono" },
                  mine.length
                    ? mine.map((word, at) => [
                        at ? ", " : "",
                        Array.isArray(theirs) && theirs.includes(word) ? word : h("b", {}, word),
                      ])
                    : "as by default",
                )
              : h("td", {}, mine === theirs ? String(mine) : h("b", {}, mine));
          return h("tr", {}, h("th", { scope: "row" }, name), cell(sides[0], sides[1]), cell(sides[1], sides[0]));
        }),
      ),
    ),
    same.length
      ? h("p", { class: "soft small", css: { "margin-top": "8px" } }, `The same in both: ${same.join(", ")}.`)
      : null,
  );
}

function comparePage(a, b) {
  const able = content.rows.filter((row) => row.told);
  const nodes = [h("h1", { tabindex: -1 }, "Compare two runs")];
  if (able.length < 2)
    return {
      title: "Compare",
      nodes: [...nodes, h("p", { class: "lead" }, "There are not two runs here to compare.")],
    };
  const judged = able.filter((row) => keyOf(row.run));
  a = a || (judged[0] || able[0]).run;
  b =
    b ||
    (
      judged.find((row) => row.run !== a && keyOf(row.run) === (told[a] && keyOf(a))) ||
      able.find((row) => row.run !== a)
    ).run;
  if (!told[a] || !told[b]) return unknown(told[a] ? b : a);
  const pick = (name, chosen, go) =>
    h(
      "label",
      {},
      h("b", { class: `key-${name.toLowerCase()}` }, name),
      h(
        "select",
        { "aria-label": `Run ${name}`, onchange: (event) => go(event.target.value) },
        able.map((row) =>
          h(
            "option",
            { value: row.run, selected: row.run === chosen },
            row.run + (row.dev ? `  ${percent(row.dev.accuracy)}` : ""),
          ),
        ),
      ),
    );
  const go = (one, other) => {
    keepFocus = true;
    location.hash = address("compare", one, other);
  };
  nodes.push(
    h(
      "div",
      { class: "choose" },
      pick("A", a, (run) => go(run, b)),
      h("button", { type: "button", class: "quiet", onclick: () => go(b, a), "aria-label": "Exchange A and B" }, "⇄"),
      pick("B", b, (run) => go(a, run)),
    ),
  );
  const reason = whyNot(a, b);
  if (reason) nodes.push(h("p", { class: "notice", role: "status" }, coded(reason)));
  else {
    const mine = mistakesOf(a),
      theirs = mistakesOf(b);
    const both = [...mine.keys()].filter((row) => theirs.has(row)).length;
    const onlyA = theirs.size - both,
      onlyB = mine.size - both,
      images = told[a].judged.images;
    const swap = onlyA > onlyB;
    const [value, low, high, p, words] =
      content.pairs[[Math.min(onlyA, onlyB), Math.max(onlyA, onlyB), images].join(" ")];
    const [difference, from, to] = swap ? [-value, -high, -low] : [value, low, high];
    const recipes = [a, b].map((run) => rowOf.get(run).recipe);
    const [better, other] = swap ? ["A", "B"] : ["B", "A"];
    const verdict = words
      ? words.replaceAll("@better", better).replaceAll("@other", other) + "."
      : !difference
        ? "They have equally many right."
        : `${better} is better by ${Math.abs(100 * difference).toFixed(2)} points: ${p < 0.05 ? "more than chance" : "could well be noise"}.`;
    nodes.push(
      h("p", { class: "verdict", role: "status" }, verdict),
      h(
        "p",
        { class: "soft", css: { "margin-top": "8px" } },
        `On ${count(images)} images that both held out, B less A is ${points(difference)} points, 95 % interval ${points(from)} to ${points(to)}; McNemar’s exact test gives p = ${p < 0.001 ? p.toExponential(1) : p.toFixed(3)}. This is of these two trainings: another seed moves the score too, and of twenty pairs that are equal one looks different at p < 0.05. `,
        recipes[0] !== recipes[1] &&
          coded(`Several seeds of each tell more: \`digits compare ${recipes.join(" ")} --recipes\`.`),
      ),
      h(
        "div",
        { class: "pair", css: { "margin-top": "20px" } },
        interval(difference, from, to),
        h(
          "table",
          { class: "fourfold" },
          h(
            "thead",
            {},
            h(
              "tr",
              {},
              h("td", {}),
              h("th", { scope: "col", class: "number" }, "B right"),
              h("th", { scope: "col", class: "number" }, "B wrong"),
            ),
          ),
          h(
            "tbody",
            {},
            h(
              "tr",
              {},
              h("th", { scope: "row" }, "A right"),
              h("td", {}, count(images - both - onlyA - onlyB)),
              h("td", {}, count(onlyA)),
            ),
            h("tr", {}, h("th", { scope: "row" }, "A wrong"), h("td", {}, count(onlyB)), h("td", {}, count(both))),
          ),
        ),
      ),
      noPictures(),
      exclusive(mine, theirs, "A", "B"),
      exclusive(theirs, mine, "B", "A"),
    );
  }
  const curves = [a, b].map((run) => told[run].curves);
  if (
    curves.every((one) => one && one.error.some((line) => line.who === "dev")) &&
    curves[0].unit === curves[1].unit &&
    !told[a].members.length &&
    !told[b].members.length
  ) {
    const of = (name, at, kind) => ({
      ...curves[at][kind].find((line) => line.who === "dev"),
      name,
      who: name.toLowerCase(),
    });
    nodes.push(
      h(
        "section",
        {},
        h("h2", {}, "Learning curves, dev"),
        h(
          "div",
          { class: "pair" },
          ["loss", "error"].map(
            (kind) =>
              curves.every((one) => one[kind].some((line) => line.who === "dev")) &&
              lines(kind === "loss" ? "cross-entropy" : "error, %", curves[0].unit, [
                of("A", 0, kind),
                of("B", 1, kind),
              ]),
          ),
        ),
      ),
    );
  }
  nodes.push(sideBySide(a, b));
  nodes.push(
    h(
      "p",
      { css: { "margin-top": "18px" } },
      h("a", { href: address("run", a) }, "All of A"),
      " · ",
      h("a", { href: address("run", b) }, "All of B"),
    ),
  );
  return { title: "Compare", nodes };
}
