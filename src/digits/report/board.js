// The leaderboard.

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
  const text = [row.run, row.recipe, row.note, row.commit, row.status, row.problem, row.description]
    .join(" ")
    .toLowerCase();
  return (
    words.every((word) => text.includes(word)) &&
    (!board.recipe || row.recipe === board.recipe) &&
    (!board.from || day(row.date) >= board.from) &&
    (!board.to || (row.date && day(row.date) <= board.to))
  );
}
function sorted(rows) {
  const column = COLUMNS.find((one) => one.id === board.sort);
  const missing = (value) => value === null || value === undefined || value === "";
  return [...rows].sort((one, other) => {
    const a = column.value(one),
      b = column.value(other);
    if (missing(a) || missing(b)) return missing(a) - missing(b) || one.rank - other.rank;
    const order = typeof a === "number" ? a - b : a < b ? -1 : a > b ? 1 : 0;
    return board.way * order || one.rank - other.rank;
  });
}

function whiskers() {
  const errors = content.rows
    .filter((row) => row.dev)
    .map((row) => 1 - row.dev.accuracy + 2 * row.dev.error)
    .concat(content.rows.filter((row) => row.public !== null).map((row) => 1 - row.public));
  const least = content.rows
    .filter((row) => row.dev)
    .map((row) => Math.max(1 - row.dev.accuracy - 2 * row.dev.error, 0.0005));
  if (!errors.length) return null;
  return log(Math.min(...least, ...errors) * 0.9, Math.max(...errors) * 1.1, 138, 2);
}
function whisker(row, scale) {
  const svg = s("svg", { width: 140, height: 14, "aria-hidden": "true" });
  if (row.dev) {
    const error = 1 - row.dev.accuracy;
    const at = (value) => scale(Math.max(value, 0.0005));
    svg.append(
      s("line", {
        x1: at(error + 2 * row.dev.error),
        x2: at(error - 2 * row.dev.error),
        y1: 7,
        y2: 7,
        css: { stroke: "var(--blue)", "stroke-width": 2, opacity: 0.45 },
      }),
      s("circle", { cx: at(error), cy: 7, r: 3.5, css: { fill: "var(--blue)" } }),
    );
  }
  if (row.public !== null)
    svg.append(
      s("path", {
        d: `M${scale(Math.max(1 - row.public, 0.0005))} 2l5 5l-5 5l-5-5z`,
        css: { fill: "none", stroke: "var(--red)", "stroke-width": 1.75 },
      }),
    );
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
  const badge =
    row.kind === "broken"
      ? h("span", { class: "badge bad" }, "can’t be read")
      : row.kind === "stranger"
        ? h("span", { class: "badge" }, "no run here")
        : row.status !== "finished"
          ? h("span", { class: "badge" + (row.status === "failed" ? " bad" : "") }, row.status)
          : row.sample
            ? h("span", { class: "badge" }, "sample data")
            : null;
  const box =
    row.told &&
    h("input", {
      type: "checkbox",
      "aria-label": `Choose ${row.run} for a comparison`,
      checked: board.chosen.includes(row.run),
      onchange: (event) => choose(row.run, event.target),
    });
  if (row.kind === "broken")
    return [
      h("td", { class: "pick" }),
      h("td", { class: "rank" }),
      h("td", { class: "run", colspan: 10 }, id, " ", badge),
    ];
  return [
    h("td", { class: "pick" }, box),
    h("td", { class: "number rank soft-number" }, row.rank),
    h("td", { class: "run" }, id, badge && [" ", badge]),
    named("Recipe", "recipe less", row.recipe || dash()),
    named("Seed", "number wider", row.seed === null ? dash() : row.seed),
    named(
      "Dev accuracy",
      "number key",
      row.dev
        ? [
            percent(row.dev.accuracy),
            h("span", { class: "soft-number" }, ` ± ${(100 * row.dev.error).toFixed(2)}`),
            judgedOn(row),
          ]
        : dash(),
    ),
    h("td", { class: "whisker" }, scale && whisker(row, scale)),
    named("Public", "number key", row.public === null ? dash() : row.public.toFixed(5)),
    named(
      "Gap",
      "number key",
      row.gap
        ? h("span", { class: row.gap.surprise ? "surprise" : "", title: row.gap.text }, points(row.gap.value))
        : dash(),
    ),
    named("Time", "number less wider", row.seconds === null ? dash() : time(row.seconds)),
    named("Date", "less still", row.date ? h("time", { datetime: row.date, title: row.date }, day(row.date)) : dash()),
    named("Commit", "mono widest", row.commit || dash()),
  ];
}

function wordsOn(row) {
  const words = [
    row.problem && [row.problem, true],
    ...(row.told ? told[row.run].wrong : []).map((text) => [text, true]),
    row.note && [row.note, false],
  ].filter(Boolean);
  return words.length
    ? h(
        "tr",
        { class: "more" },
        h("td", { colspan: 2 }),
        h(
          "td",
          { colspan: 10, class: "run" },
          words.map(([text, bad]) => h("p", { class: bad ? "bad" : null }, bad ? coded(text) : text)),
        ),
      )
    : null;
}
function lineOf(row, scale, choose) {
  const more = wordsOn(row);
  const kinds = { [row.kind]: true, chosen: board.chosen.includes(row.run) && row.told, joined: more };
  return [
    h(
      "tr",
      {
        "data-run": row.run,
        class:
          Object.keys(kinds)
            .filter((kind) => kinds[kind])
            .join(" ") || null,
      },
      cells(row, scale, choose),
    ),
    more,
  ];
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
    for (const line of body.rows)
      line.classList.toggle("chosen", Boolean(line.dataset.run) && board.chosen.includes(line.dataset.run));
    drawTray();
  };
  const drawTray = () => {
    const [one, other] = board.chosen;
    tray.hidden = !one;
    tray.replaceChildren(
      h(
        "span",
        { class: "names mono" },
        other ? `${one} and ${other}` : one ? `${one}: choose another to compare it with` : "",
      ),
    );
    if (other) tray.append(h("a", { class: "button", href: address("compare", one, other) }, "Compare these two"));
    if (one)
      tray.append(
        h(
          "button",
          {
            type: "button",
            class: "quiet",
            onclick: () => {
              board.chosen = [];
              draw();
            },
          },
          "Clear",
        ),
      );
  };
  const draw = () => {
    const rows = sorted(content.rows.filter(matches));
    body.replaceChildren(...rows.flatMap((row) => lineOf(row, scale, choose)).filter(Boolean));
    if (!rows.length) body.append(h("tr", {}, h("td", { colspan: 12, class: "none run" }, "No run is like that.")));
    shown.textContent =
      rows.length === content.rows.length
        ? many(rows.length, "run")
        : `${rows.length} of ${many(content.rows.length, "run")}`;
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
  const field = (name, label, attributes, extra = "") =>
    h(
      "label",
      { class: extra || null },
      label,
      h("input", {
        ...attributes,
        value: board[name],
        oninput: (event) => {
          board[name] = event.target.value;
          draw();
        },
      }),
    );
  const order = h(
    "select",
    {
      "aria-label": "Sort by",
      onchange: (event) => {
        const column = COLUMNS.find((one) => one.id === event.target.value);
        board.sort = column.id;
        board.way = column.first;
        draw();
      },
    },
    COLUMNS.map((column) => h("option", { value: column.id }, column.id === "rank" ? "Best first" : column.name)),
  );
  const direction = h("button", {
    type: "button",
    onclick: () => {
      board.way = -board.way;
      draw();
    },
  });

  const table = h(
    "table",
    { class: "board" },
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        h("th", { scope: "col" }, h("span", { class: "skip" }, "Choose")),
        COLUMNS.flatMap((column) => {
          const head = h(
            "th",
            {
              scope: "col",
              class: [column.number && "number", column.kind, column.from].filter(Boolean).join(" ") || null,
            },
            h("button", { type: "button", onclick: () => sortBy(column) }, column.name),
          );
          heads.set(column.id, head);
          return column.id === "dev" ? [head, h("th", { scope: "col", class: "whisker" }, "error, log scale")] : [head];
        }),
      ),
    ),
    body,
  );
  const filters = h(
    "form",
    { class: "filters", role: "search", onsubmit: (event) => event.preventDefault() },
    field("text", "Filter", { type: "search", placeholder: "run, recipe, note, commit", autocomplete: "off" }, "wide"),
    h(
      "label",
      {},
      "Recipe",
      h(
        "select",
        {
          "aria-label": "Recipe",
          onchange: (event) => {
            board.recipe = event.target.value;
            draw();
          },
        },
        h("option", { value: "" }, "all"),
        recipes.map((name) => h("option", { value: name, selected: name === board.recipe }, name)),
      ),
    ),
    field("from", "From", { type: "date" }),
    field("to", "To", { type: "date" }),
    h("label", { class: "sorting" }, "Sort by", order),
    h("div", { class: "sorting" }, h("span", {}, "Order"), direction),
    shown,
  );
  draw();
  return {
    title: "Runs",
    nodes: [
      h("h1", { tabindex: -1 }, "Leaderboard"),
      h("p", { class: "lead" }, content.summary),
      content.remarks.length
        ? h(
            "div",
            { class: "notice" },
            h(
              "ul",
              {},
              content.remarks.map((remark) => h("li", {}, coded(remark))),
            ),
          )
        : null,
      filters,
      table,
      tray,
      scale &&
        h(
          "p",
          { class: "soft small", css: { "margin-top": "10px" } },
          "Best is the highest public score; runs without one follow by their dev accuracy, ± its standard error. In the column of errors a dot is dev with ± 2 standard errors, a diamond the public score; further right is better.",
        ),
      surprisePlot(),
    ],
  };
}
