"""The runs as one HTML file that needs nothing but a browser: the leaderboard, each run, any two of them compared.

page.html, style.css and the scripts are the page; here they are put into one file with what they show, as JSON.
Statistics are reckoned here: the page counts, looks them up and draws.
"""

import base64
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import resources
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from digits import __version__, leaderboard
from digits.comparison import compare_held_out
from digits.competition import TRAIN
from digits.data import Data
from digits.entry import SCORED_IMAGES, gap
from digits.files import make_folder, write_text
from digits.heldout import HeldOut
from digits.report.content import Account, pooled, score_table
from digits.report.pictures import COLUMNS, Pictures
from digits.runs import Broken, Run
from digits.stats import Score, mcnemar, paired_difference

LARGEST = 5_000_000  # bytes of the file
TOLD = 400  # runs that are shown in full, the best
PICTURES = 4_000  # images, of all runs together
LISTED = 60_000  # mistakes, of all runs together, for comparisons
SCRIPTS = ("elements.js", "charts.js", "images.js", "board.js", "run.js", "compare.js", "page.js")  # in this order
VERDICTS = 300  # pairs of counts that are put into words


@dataclass(frozen=True)
class Report:
    """A report that was written: where, how many runs it lists and how many of them in full, and of how many bytes.

    `remarks` is what a reader should know of what is missing, in sentences.
    """

    path: Path
    runs: int
    told: int
    bytes: int
    remarks: tuple[str, ...]


def write(
    path: Path, ledger: Sequence[Run], broken: Sequence[Broken], submissions: Path, data: Data | None, remark: str = ""
) -> Report:
    """Write the report of runs, and of folders that hold none which can be read, to a file.

    `data` is what pictures of images are taken from; where there is none, `remark` says why. Raises DigitsError if the
    file can't be written.
    """
    if data is None and not remark:
        remark = "Images are not shown, as the data is not at hand."
    known = {run.id: run for run in ledger}
    folders = {one.id: one.folder for one in broken}
    rows = []
    for rank, row in enumerate(leaderboard.rows(ledger, submissions, broken, sample=True), 1):
        run = known.get(row.run) if row.recipe is not None else None
        broken_at = folders.get(row.run) if row.problem and not run else None
        rows.append({**_row(row, run, broken_at), "rank": None if broken_at else rank})
    best = [Account(known[row["run"]]) for row in [row for row in rows if row["kind"] == "run"][:TOLD]]
    count = len(best)
    while True:
        remarks = _remarks(best[:count], len(known), data, remark)
        text = _page(rows, best[:count], data, remarks)
        size = len(text.encode())
        if size <= LARGEST or not count:
            break
        count = count * 2 // 3
    make_folder(path.parent)
    write_text(path, text)
    return Report(path, len(rows), count, size, tuple(remarks))


def _row(row: leaderboard.Row, run: Run | None, broken_at: Path | None) -> dict[str, Any]:
    """A line of the table: of a run, of a folder with none that can be read, or of a submission of no run here."""
    dev = {"correct": row.dev.correct, "images": row.dev.images} if row.dev else None
    record = run.record if run else {}
    off = row.gap
    return {
        "kind": "run" if run else "broken" if broken_at else "stranger",
        "run": row.run,
        "recipe": row.recipe,
        "seed": row.seed,
        "date": row.date,
        "status": row.status,
        "dev": score_table(dev),
        "judged": row.judged,
        "public": row.public_score,
        "gap": off
        and {
            "value": off.value,
            "error": off.standard_error,
            "text": str(off),
            "surprise": abs(off.value) > 2 * off.standard_error,
        },
        "seconds": row.seconds,
        "commit": str(row.commit)[:7] + ("+" if row.dirty else "") if row.commit else None,
        "description": str(record["recipe"].get("description") or "") if run else "",
        "note": " · ".join(row.notes),
        "sample": bool(run and run.sample),
        # Where it is on this machine is nobody else's business.
        "problem": (row.problem or "").replace(f"{broken_at}{os.sep}", "") if broken_at else None,
        "submissions": [
            {
                "date": entry["date"],
                "public": entry.get("public_score"),
                "status": entry["status"],
                "message": entry["message"],
            }
            for entry in record.get("submissions", [])
        ],
    }


def _remarks(told: Sequence[Account], runs: int, data: Data | None, remark: str) -> list[str]:
    """What a reader should know of what is not shown."""
    found = [remark] if remark else []
    others = sum(one.judged is not None and not _of(one, data) for one in told) if data else 0
    if others:
        found.append(
            f"{others} of the runs {'was' if others == 1 else 'were'} made with another {TRAIN.file} than the one at "
            "hand, so their images are not shown."
        )
    if len(told) < runs:
        found.append(
            f"The best {len(told):,} of {runs:,} runs are shown in full, so that this file stays below "
            f"{LARGEST // 1_000_000} MB; `digits report --runs` takes those that you name."
        )
    if told and all(one.run.sample for one in told):
        found.append("These runs are on sample data: their scores say nothing about the competition.")
    return found


def _of(told: Account, data: Data) -> bool:
    """The run was trained on this very train.csv."""
    return bool(told.run.record["data"]["sha256"].get(TRAIN.file) == data.sha256[TRAIN.file])


def _page(rows: list[dict[str, Any]], told: Sequence[Account], data: Data | None, remarks: list[str]) -> str:
    """The HTML file's text."""
    runs = {one.run.id: {**one.table, "listed": None} for one in told}
    room = LISTED
    for one in told:
        if "judged" in one.table and one.table["judged"]["wrong"] <= room:
            room -= one.table["judged"]["wrong"]
            runs[one.run.id]["listed"] = one.listed()
    source = data.sha256[TRAIN.file] if data else next((sha for one in told if (sha := _train_sha256(one))), None)
    alone = [one for one in told if "blend" not in one.run.record["recipe"]]  # a blend says what its members say
    doubts = pooled([one.judged for one in alone if one.judged and _train_sha256(one) == source])
    pictures = _pictures([one for one in told if data and _of(one, data)], runs, doubts, data) if data else None
    content = {
        "summary": _summary(rows),
        "remarks": remarks,
        "notice": remarks[0] if remarks and not data else "",
        "rows": [{**row, "told": row["kind"] == "run" and row["run"] in runs} for row in rows],
        "runs": runs,
        "pairs": _pairs([one for one in told if runs[one.run.id]["listed"]]),
        "labels": doubts,
        "plot": _plot(rows),
        "pictures": {"columns": COLUMNS, "rows": pictures.rows} if pictures else None,
        "foot": f"Written by digits {__version__} on {datetime.now(UTC):%Y-%m-%d at %H:%M} UTC. It loads nothing.",
    }
    return _assembled(content, pictures)


def _assembled(content: dict[str, Any], pictures: Pictures | None) -> str:
    """The page with its style, pictures, content and script put in; it may run this script and no other."""
    files = resources.files(__name__)
    script = "\n".join((files / name).read_text(encoding="utf-8") for name in SCRIPTS)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    sheet = f'background-image: url("{pictures.uri()}"); background-size: {100 * COLUMNS}%;' if pictures else ""
    parts = {
        "STYLE": (files / "style.css").read_text(encoding="utf-8").strip(),
        "PICTURES": f".tile {{ {sheet} }}",
        "SCRIPT_HASH": digest,
        "CONTENT": embedded(content),
        "SCRIPT": script,
    }
    pieces = re.split(r"@([A-Z_]+)@", (files / "page.html").read_text(encoding="utf-8"))
    return "".join(parts[piece] if at % 2 else piece for at, piece in enumerate(pieces))


def embedded(value: Any) -> str:
    """JSON that can stand in a script element: whatever a text says, it ends neither the element nor the JSON."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _train_sha256(told: Account) -> str | None:
    return told.run.record["data"]["sha256"].get(TRAIN.file) if told.judged else None


def _pictures(
    told: Sequence[Account], runs: dict[str, dict[str, Any]], doubts: dict[str, Any] | None, data: Data
) -> Pictures:
    """The images that are shown: of galleries first, then those that comparisons may show."""
    pictures = Pictures(data.images, PICTURES)
    if doubts:
        pictures.add(card[0] for card in doubts["cards"])
    for kind in ("mistakes", "doubts"):
        for one in told:
            pictures.add(card[0] for card in one.table.get(kind, []))
    for one in told:
        if one.judged and runs[one.run.id]["listed"]:
            pictures.add(one.judged.rows[~one.judged.right].tolist())
    return pictures


def _pairs(told: Sequence[Account]) -> dict[str, list[Any]]:
    """What it says that of two runs, on so many images, one alone has so many right and the other alone so many.

    The keys are "fewer more images"; the values the difference in favour of the one with more, the ends of its 95 %
    interval, McNemar's p-value, and a verdict, as far as there is time for one, on "@better" and "@other".
    """
    groups: dict[str, list[HeldOut]] = {}
    for one in told:
        if one.judged:
            groups.setdefault(one.table["judged"]["key"], []).append(one.judged)
    pairs: dict[str, list[Any]] = {}
    for group in groups.values():
        wrong = np.array([~one.right for one in group], np.float32)
        both = np.rint(wrong @ wrong.T).astype(int)
        images = wrong.shape[1]
        for a, b in combinations(range(len(group)), 2):
            only_a, only_b = int(both[b, b] - both[a, b]), int(both[a, a] - both[a, b])
            if only_a > only_b:
                a, b, only_a, only_b = b, a, only_b, only_a
            key = f"{only_a} {only_b} {images}"
            if key not in pairs:
                verdict = _verdict(group[a], group[b]) if len(pairs) < VERDICTS else ""
                difference = paired_difference(only_a, only_b, images)
                values = (difference.value, difference.low, difference.high, mcnemar(only_a, only_b))
                pairs[key] = [*(float(f"{value:.5g}") for value in values), verdict]
    return pairs


def _verdict(other: HeldOut, better: HeldOut) -> str:
    """What `digits compare` says of two runs, under names that the page puts others for."""
    a, b = (replace(one, run=Run(Path(name), one.run.record)) for one, name in ((other, "@other"), (better, "@better")))
    return compare_held_out(a, b).verdict


def _plot(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The runs with both scores, and the band about the line of no surprise: twice the standard error of the gap.

    It is that of as many dev images as most of the runs have. `low` and `high` are the ends of both axes.
    """
    points = [
        {
            "run": row["run"],
            "dev": row["dev"]["accuracy"],
            "devError": row["dev"]["error"],
            "public": row["public"],
            "gap": row["gap"]["text"],
            "surprise": row["gap"]["surprise"],
        }
        for row in rows
        if row["gap"]
    ]
    if not points:
        return {"points": []}
    images = Counter(row["dev"]["images"] for row in rows if row["gap"]).most_common(1)[0][0]
    ends = [
        end for one in points for end in (one["dev"] - one["devError"], one["dev"] + one["devError"], one["public"])
    ]
    room = max(0.08 * (max(ends) - min(ends)), 0.0008)
    low, high = max(0.0, min(ends) - room), min(1.0, max(ends) + room)
    errors = [(at, gap(at, Score(round(at * images), images)).standard_error) for at in np.linspace(low, high, 41)]
    return {
        "points": points,
        "images": images,
        "scored": SCORED_IMAGES,
        "low": low,
        "high": high,
        "band": [[round(float(at), 6), round(2 * error, 6)] for at, error in errors],
    }


def _summary(rows: Sequence[dict[str, Any]]) -> str:
    """The best there is, in a sentence or two."""
    dev = max((row for row in rows if row["dev"]), key=lambda row: row["dev"]["accuracy"], default=None)
    public = max((row for row in rows if row["public"] is not None), key=lambda row: row["public"], default=None)
    found = []
    if dev:
        found.append(f"The best dev score is {dev['dev']['text']}, of {dev['run']}.")
    if public:
        found.append(f"The best public score is {public['public']:.5f}, of {public['run']}.")
    return " ".join(found) or "No run has a score yet."
