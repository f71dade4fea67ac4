// A run, and the labels that all runs doubt.

const keyOf = (run) => told[run].judged && told[run].judged.key; // which images it is judged on

const fact = (name, value, small) =>
  value !== null &&
  value !== undefined &&
  h("div", {}, h("dt", {}, name), h("dd", {}, value, small && [" ", h("small", {}, small)]));
function problems(run) {
  const one = told[run];
  return [
    one.wrong.length
      ? h(
          "div",
          { class: "notice", role: "note" },
          h(
            "ul",
            {},
            one.wrong.map((text) => h("li", {}, coded(text))),
          ),
        )
      : null,
    one.missing.length
      ? h(
          "p",
          { class: "soft", css: { "margin-top": "14px" } },
          `Not here: ${one.missing.join("; ")}. Git keeps only run.json and submission.csv; the rest is where the run was trained.`,
        )
      : null,
  ];
}

function confusionTable(counts) {
  const most = Math.max(1, ...counts.flatMap((line, label) => line.filter((_, digit) => digit !== label)));
  return h(
    "table",
    { class: "confusion" },
    h("caption", {}, "Rows are labels, columns predictions; mistakes are coloured."),
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        h("td", {}),
        counts.map((_, digit) => h("th", { scope: "col" }, digit)),
      ),
    ),
    h(
      "tbody",
      {},
      counts.map((line, label) =>
        h(
          "tr",
          {},
          h("th", { scope: "row" }, label),
          line.map((value, digit) =>
            h(
              "td",
              {
                class: digit === label ? "hit" : null,
                css:
                  digit !== label && value
                    ? { background: `rgba(var(--red-wash), ${(0.12 + (0.4 * value) / most).toFixed(2)})` }
                    : null,
                title:
                  digit === label ? `${value} of label ${label} right` : `label ${label} predicted ${digit}: ${value}`,
              },
              value || "",
            ),
          ),
        ),
      ),
    ),
  );
}
function digitBars(digits) {
  const shares = digits.map(([right, images]) => (images ? 1 - right / images : 0));
  const most = Math.max(...shares) || 1;
  return h(
    "table",
    { class: "bars" },
    h("caption", {}, "Bars are errors, the longest the digit with most."),
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        h("th", { scope: "col" }, "digit"),
        h("th", { scope: "col" }),
        h("th", { scope: "col", class: "number" }, "accuracy"),
        h("th", { scope: "col", class: "number" }, "wrong"),
      ),
    ),
    h(
      "tbody",
      {},
      digits.map(([right, images, text], k) =>
        h(
          "tr",
          {},
          h("th", { scope: "row" }, k),
          h(
            "td",
            { class: "bar" },
            h("i", { css: { width: `${(100 * shares[k]) / most}%`, visibility: shares[k] ? "visible" : "hidden" } }),
          ),
          h("td", { class: "number" }, text),
          h("td", { class: "number" }, `${images - right} of ${count(images)}`),
        ),
      ),
    ),
  );
}
function madeOf(one, row) {
  const { settings } = one;
  const rows = [
    ["recipe", [row.recipe, one.description].filter(Boolean).join(": ")],
    ["judged on", one.split],
    ["data", one.data],
    [
      "code",
      one.code.commit
        ? `commit ${one.code.commit.slice(0, 12)}${one.code.dirty ? ", with changes that were not committed" : ""}`
        : null,
    ],
    [
      "machine",
      [
        one.machine.processor,
        one.machine.cores && `${one.machine.cores} cores`,
        one.machine.system,
        one.machine.python && `Python ${one.machine.python}`,
        one.machine.blas,
      ]
        .filter(Boolean)
        .join(", "),
    ],
    [
      "versions",
      Object.entries(one.versions || {})
        .map(([name, value]) => `${name} ${value}`)
        .join(", "),
    ],
    ...Object.entries(settings || {})
      .filter(([name]) => name !== "network")
      .map(([name, words]) => [`[${name}]`, words.join(" ")]),
    [
      "as by default",
      Object.entries(settings || {})
        .filter(([, words]) => !words.length)
        .map(([name]) => `[${name}]`)
        .join(", "),
    ],
  ];
  return h(
    "section",
    {},
    h("h2", {}, "What it is made of"),
    h(
      "dl",
      { class: "made" },
      rows
        .filter(([, value]) => value)
        .map(([name, value]) => [h("dt", {}, name), h("dd", { class: name.startsWith("[") ? "mono" : null }, value)]),
    ),
    settings && settings.network.length
      ? [
          h("h3", {}, "Layers"),
          h(
            "ol",
            { class: "layers mono", start: 0 },
            settings.network.map((line) => h("li", {}, line)),
          ),
        ]
      : null,
  );
}
function submissionsTable(row) {
  if (!row.submissions.length) return null;
  return h(
    "section",
    {},
    h("h2", {}, "Submissions"),
    h(
      "div",
      { class: "stack-small" },
      h(
        "table",
        {},
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            ["date", "public score", "status", "message"].map((head) => h("th", { scope: "col" }, head)),
          ),
        ),
        h(
          "tbody",
          {},
          row.submissions.map((one) =>
            h(
              "tr",
              {},
              h("td", { class: "still" }, day(one.date)),
              h("td", {}, one.public === null ? "–" : one.public.toFixed(5)),
              h("td", {}, one.status),
              h("td", { css: { "overflow-wrap": "anywhere" } }, one.message),
            ),
          ),
        ),
      ),
    ),
  );
}

function runPage(run) {
  const one = told[run],
    row = rowOf.get(run);
  if (!one) return unknown(run);
  const others = content.rows.filter((other) => other.told && other.run !== run);
  const nodes = [
    h("h1", { tabindex: -1, class: "id" }, run),
    h(
      "p",
      { class: "lead" },
      [`${row.recipe}, seed ${row.seed}`, one.description, day(row.date)].filter(Boolean).join(" · "),
      row.status !== "finished" && [
        " ",
        h("span", { class: "badge" + (row.status === "failed" ? " bad" : "") }, row.status),
      ],
      row.sample && [" ", h("span", { class: "badge" }, "sample data")],
    ),
    row.note && h("p", {}, row.note),
    h(
      "dl",
      { class: "facts" },
      row.dev && fact("Dev accuracy", percent(row.dev.accuracy), `± ${(100 * row.dev.error).toFixed(2)}`),
      row.dev && fact("Wrong", count(row.dev.images - row.dev.correct), `of ${count(row.dev.images)}`),
      fact(
        "Public score",
        row.public === null ? null : row.public.toFixed(5),
        row.gap && `gap ${points(row.gap.value)} ± ${(100 * row.gap.error).toFixed(2)}`,
      ),
      one.train && fact("Train accuracy", percent(one.train.accuracy)),
      one.calibration && fact("Calibration error", (100 * one.calibration.error).toFixed(2), "points"),
      fact("Parameters", one.parameters === null ? null : count(one.parameters)),
      fact("Training", row.seconds === null ? null : time(row.seconds)),
    ),
    problems(run),
    others.length
      ? h(
          "p",
          { css: { "margin-top": "18px" } },
          h(
            "a",
            {
              href: address(
                "compare",
                (others.find((other) => keyOf(other.run) && keyOf(other.run) === keyOf(run)) || others[0]).run,
                run,
              ),
            },
            "Compare it with another run",
          ),
        )
      : null,
  ];
  if (one.curves) {
    const { unit, loss, error } = one.curves;
    nodes.push(
      h(
        "section",
        {},
        h("h2", {}, "Learning curves"),
        one.members.length && loss.length > 2
          ? h("p", { class: "soft" }, "Each line is a member, on the images that it holds out.")
          : h(
              "p",
              { class: "soft" },
              "The training’s loss and error are those of its batches while it learns, on augmented images.",
            ),
        h(
          "div",
          { class: "pair" },
          loss.length ? lines("cross-entropy", unit, loss) : null,
          error.length ? lines("error, %", unit, error) : null,
        ),
        numbers(
          "The curves as a table",
          [unit, ...loss.map((line) => `loss, ${line.name}`), ...error.map((line) => `error, ${line.name}`)],
          [...new Set([...loss, ...error].flatMap((line) => line.x))]
            .sort((a, b) => a - b)
            .map((x) => [
              plain(x),
              ...[...loss, ...error].map((line) => (line.x.includes(x) ? plain(line.y[line.x.indexOf(x)]) : "")),
            ]),
        ),
      ),
    );
  }
  const weighed = one.members.some((member) => member.weight !== null);
  if (one.members.length)
    nodes.push(
      h(
        "section",
        {},
        h("h2", {}, "Members"),
        h(
          "div",
          { class: "stack-small" },
          h(
            "table",
            {},
            h(
              "thead",
              {},
              h(
                "tr",
                {},
                ["", "seed", "held out", weighed && "weight", "accuracy on it", "time"]
                  .filter((head) => head !== false)
                  .map((head, k) => h("th", { scope: "col", class: k > 2 ? "number" : null }, head)),
              ),
            ),
            h(
              "tbody",
              {},
              one.members.map((member, k) =>
                h(
                  "tr",
                  {},
                  h(
                    "th",
                    { scope: "row" },
                    told[member.run]
                      ? h("a", { href: address("run", member.run), class: "mono" }, member.run)
                      : member.run || k,
                  ),
                  h("td", {}, member.seed),
                  h("td", {}, member.split),
                  weighed && h("td", { class: "number" }, member.weight === null ? "–" : short(member.weight)),
                  h("td", { class: "number" }, member.dev ? member.dev.text : member.status),
                  h("td", { class: "number" }, time(member.seconds)),
                ),
              ),
            ),
          ),
        ),
        h(
          "p",
          { class: "soft small" },
          / in its turn/.test(one.split)
            ? "The dev score of the whole is out of fold: each image is judged by the members that did not train on it."
            : null,
        ),
      ),
    );
  if (one.confusion)
    nodes.push(
      h(
        "section",
        { class: "pair" },
        h("div", {}, h("h2", {}, "Confusion matrix"), confusionTable(one.confusion)),
        h("div", {}, h("h2", {}, "Accuracy of each digit"), digitBars(one.digits)),
      ),
      h("section", {}, h("h2", {}, "Calibration"), reliability(one)),
      h(
        "section",
        {},
        h("h2", {}, "Worst mistakes"),
        one.mistakes.length
          ? [
              h(
                "p",
                {},
                `${many(one.judged.wrong, "held-out image")} predicted wrong${one.judged.wrong > one.mistakes.length ? `, the ${one.mistakes.length} surest of them here` : ", the surest first"}.`,
              ),
              key(),
              noPictures(),
              gallery(one.mistakes.map(card)),
            ]
          : h("p", { class: "soft" }, "None: every held-out image is predicted right."),
      ),
      h(
        "section",
        {},
        h("h2", {}, "Labels in doubt"),
        h(
          "p",
          {},
          one.doubted
            ? `Confident learning puts ${many(one.doubted, "label")} of ${count(one.judged.images)} in doubt${one.doubted > one.doubts.length ? `, the clearest ${one.doubts.length} here` : ""}.`
            : `Confident learning puts none of the ${count(one.judged.images)} labels in doubt.`,
          " ",
          h("a", { href: "#/labels" }, "All runs together"),
          " see more than one.",
        ),
        method(),
        one.doubts.length ? gallery(one.doubts.map(card)) : null,
      ),
    );
  nodes.push(submissionsTable(row), madeOf(one, row));
  return { title: run, nodes };
}
const method = () =>
  h(
    "p",
    { class: "soft small" },
    "An image’s label is in doubt where the network, which never trained on that image, is at least as sure of another digit as it is, on average, of images labelled so (Northcutt, Jiang and Chuang 2021, “Confident learning”, arXiv 1911.00068). That can’t tell a wrong label from an image that is hard to read: look at each. No label is changed.",
  );
const unknown = (run) => ({
  title: "Not here",
  nodes: [
    h("h1", { tabindex: -1 }, "Not here"),
    h(
      "p",
      {},
      rowOf.has(run)
        ? rowOf.get(run).problem || "There are no details of this run in this report."
        : `This report has no run ${run}.`,
    ),
    h("p", {}, h("a", { href: "#/" }, "All runs")),
  ],
});

function labelsPage() {
  const pooled = content.labels;
  const nodes = [h("h1", { tabindex: -1 }, "Labels in doubt")];
  if (!pooled)
    nodes.push(
      h(
        "p",
        { class: "lead" },
        "No run here has its dev.npz, the probabilities of held-out images, from which doubts about labels come.",
      ),
    );
  else {
    nodes.push(
      h(
        "p",
        { class: "lead" },
        `${many(pooled.runs, "run")} together held out ${count(pooled.images)} labelled images. Of their mean probabilities, ${pooled.doubted ? `confident learning puts ${many(pooled.doubted, "label")} in doubt, shown first; then follow` : "confident learning puts no label in doubt; these are"} the images that speak most against their labels.`,
      ),
      method(),
      h(
        "p",
        { class: "soft small" },
        "Each image is judged only by the runs that held it out: under it is how many of them predict another digit than the label. Runs with more than twice the least error are not asked.",
      ),
      key(),
      noPictures(),
      gallery(pooled.cards.map(card)),
    );
  }
  return { title: "Labels in doubt", nodes };
}
