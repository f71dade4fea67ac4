"""The report as a file: what is in it, what is left out and that this is said."""

import base64
import hashlib
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledgers import finished_run
from PIL import Image
from reports import HOSTILE, ledger, log, run_of
from typer.testing import CliRunner

from digits import cli, report, runs
from digits.comparison import compare
from digits.data import Data
from digits.errors import DigitsError
from digits.nn import write_arrays
from digits.report.content import POINTS, Account
from digits.report.pictures import COLUMNS, Pictures
from digits.runs import Run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, sample_data: Data) -> Path:
    folder = tmp_path_factory.mktemp("submissions")
    ledger(folder, sample_data)
    return folder


@pytest.fixture(scope="module")
def page(folder: Path, sample_data: Data) -> str:
    """The text of a report of that ledger."""
    found, broken = runs.listed(folder)
    written = report.write(folder / "report.html", found, broken, folder, sample_data)
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert (written.runs, written.told, written.bytes) == (10, 8, len(text.encode()))
    return text


def content(page: str) -> Any:
    """What the page shows."""
    (text,) = re.findall(r'<script type="application/json" id="content">(.*?)</script>', page, re.DOTALL)
    return json.loads(text)


def told(run: Run) -> dict[str, Any]:
    return Account(run).table


def of(shown: Any, name: str) -> Any:
    """The row of the run whose id has that in it."""
    (row,) = [row for row in shown["rows"] if name in row["run"]]
    return row


def test_the_rows_are_the_leaderboard_and_after_it_what_cannot_be_read(page: str, folder: Path) -> None:
    rows = content(page)["rows"]
    assert [row["run"].partition("-")[2].partition("-")[2] or row["run"] for row in rows] == [
        *("deep-s1", "mlp-s0", "by hand", "mlp-s1", "deep-s0", "trio-s0", "bare-s0", "blend-s0", "begun-s0", "torn-s0")
    ]
    assert [row["rank"] for row in rows] == [*range(1, 10), None]
    assert "can't be read" in rows[-1]["problem"]
    assert str(folder) not in page


def test_a_row_has_the_scores_and_a_surprise_is_called_so(page: str) -> None:
    second, worst = of(content(page), "deep-s1"), of(content(page), "mlp-s0")
    assert (second["dev"]["correct"], second["dev"]["images"], second["public"]) == (195, 200, 0.975)
    assert second["gap"]["value"] == pytest.approx(0.0)
    assert not second["gap"]["surprise"]
    # 140 of 200 right is 0.7 ± 0.032, and the public score 0.9 is more than six of these away.
    assert worst["gap"]["surprise"]
    assert content(page)["plot"]["images"] == 200
    assert [point["surprise"] for point in content(page)["plot"]["points"]] == [False, True]


def test_the_band_of_no_surprise_by_hand(page: str) -> None:
    plot = content(page)["plot"]
    # From 0.7 - 0.032 to 0.975 + 0.011, and a bit of room.
    assert 0.63 < plot["low"] < 0.668
    assert 0.987 < plot["high"] <= 1
    assert (plot["band"][0][0], plot["band"][-1][0]) == pytest.approx((plot["low"], plot["high"]), abs=1e-5)
    for at, half in plot["band"]:
        right = round(200 * at) / 200  # of the dev images
        error = (right * (1 - right) / 200 + at * (1 - at) / 28_000) ** 0.5
        assert half == pytest.approx(2 * error, abs=1e-5)


def test_what_a_run_is_told_of(page: str) -> None:
    shown = content(page)
    best = shown["runs"][of(shown, "deep-s0")["run"]]
    assert [card[0] for card in best["mistakes"]] == [3, 7, 11]
    assert best["mistakes"][0][1:] == [3, [10, 10, 10, 10, 910, 10, 10, 10, 10, 10]]
    assert best["confusion"][3][4] == 1
    assert best["digits"][3] == [19, 20, "95.00% ± 4.87"]
    # Sure by 0.91 of each, and right of 197 in 200.
    assert best["calibration"]["error"] == pytest.approx(0.985 - 0.91, abs=1e-4)
    assert best["curves"]["error"][1] == {
        "name": "dev",
        "who": "dev",
        "x": [1, 2, 3, 4, 5],
        "y": [25, 12.5, 8.333, 6.25, 5],
    }
    assert best["settings"]["network"][1] == "dense units=10 init=uniform"
    assert (best["missing"], best["wrong"]) == ([], [])


def test_the_runs_together_doubt_labels(page: str) -> None:
    labels = content(page)["labels"]
    # The worst and blend have more than twice the least error, which is that of the run on other images.
    assert (labels["runs"], labels["images"]) == (1, 200)
    assert [card[0] for card in labels["cards"]] == [201]


def test_what_is_missing_is_said(page: str) -> None:
    shown = content(page)
    bare = shown["runs"][of(shown, "bare")["run"]]
    assert [words.partition(",")[0] for words in bare["missing"]] == ["dev.npz", "log.jsonl"]
    assert bare["wrong"] == []
    assert bare["curves"] is None
    assert "confusion" not in bare
    begun = shown["runs"][of(shown, "begun")["run"]]
    assert begun["missing"] == []
    assert begun["curves"]


def test_an_ensemble_shows_its_members(page: str) -> None:
    shown = content(page)
    trio = shown["runs"][of(shown, "trio")["run"]]
    assert [member["dev"]["correct"] for member in trio["members"]] == [197, 197, 197]
    assert [line["name"] for line in trio["curves"]["loss"]] == ["member 0", "member 1", "member 2"]
    assert trio["missing"] == []


def test_members_that_stayed_elsewhere_are_told_of_as_far_as_they_are_recorded(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    score = {"correct": 9, "images": 10}
    split = {"fraction": 0.0, "folds": 2, "fold": 1, "seed": 0}
    member = {"seed": 7, "split": split, "scores": {"dev": score}, "seconds": {"train": 3.5}}
    run.update(members=[member, {**member, "split": {**split, "folds": None, "fold": None}}, "what?"])
    of_fold, of_all = told(run)["members"]
    assert (of_fold["seed"], of_fold["split"], of_fold["seconds"]) == (7, "fold 1 of 2", 3.5)
    assert of_fold["dev"]["text"] == "90.00% ± 9.49"
    assert of_all["split"] == "nothing"


@pytest.mark.parametrize(
    "harm",
    [
        lambda run: run.path("dev.npz").write_bytes(b"no zip"),
        lambda run: run.path("dev.npz").write_bytes(run.path("dev.npz").read_bytes()[:-40]),
        lambda run: np.savez(run.path("dev.npz"), rows=np.arange(3)),
        lambda run: np.savez(run.path("dev.npz"), rows=np.arange(3), labels=np.arange(3), probabilities=np.ones(3)),
    ],
)
def test_damaged_predictions_are_said_and_the_rest_is_shown(tmp_path: Path, harm: Any) -> None:
    run = finished_run(tmp_path)
    log(run, 3)
    harm(run)
    table = told(run)
    (words,) = [words for words in table["wrong"] if "recipe" not in words]
    assert words.startswith("dev.npz ")
    assert "confusion" not in table
    assert table["curves"]


def test_a_score_that_was_edited_is_said(tmp_path: Path) -> None:
    run = finished_run(tmp_path, wrong=[1])
    run.update(scores={"train": "much", "dev": {"correct": 1000, "images": 1000}})
    assert any("1,000 of 1,000 are right, and dev.npz has 999" in words for words in told(run)["wrong"])


@pytest.mark.parametrize(
    "changes",
    [
        {"code": None, "machine": "a fast one", "seconds": None, "parameters": "many"},
        {"machine": {"versions": [1, 2]}, "members": 3, "seconds": {"train": "long"}, "scores": None},
        {"code": {"commit": 7}, "machine": {"cores": [2]}, "parameters": None, "split": {"folds": "x"}},
        {"recipe": {"name": "x", "network": "none", "train": 3}},
        {"recipe": {"name": "x", "network": [{"layer": "spell"}], "description": ["a", "b"]}},
    ],
)
def test_a_record_edited_by_hand_breaks_nothing(tmp_path: Path, sample_data: Data, changes: dict[str, Any]) -> None:
    run = finished_run(tmp_path)
    record = json.loads(run.path("run.json").read_text())
    run.path("run.json").write_text(json.dumps({**record, **changes}))
    found, broken = runs.listed(tmp_path)
    report.write(tmp_path / "report.html", found, broken, tmp_path, sample_data)
    (row,) = content((tmp_path / "report.html").read_text())["rows"]
    assert row["run"] == run.id


def test_a_log_edited_by_hand_is_drawn_as_far_as_it_goes(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    log(run, 2)
    for values in ({"loss": "low", "dev_loss": None}, {"epoch": None}, {"loss": float("nan"), "dev_loss": 0.125}):
        run.append_log({"step": 30, "epoch": 3, "loss": 0.2, "dev_loss": 0.3, **values})
    loss = {line["name"]: line for line in told(run)["curves"]["loss"]}
    assert loss["train"]["y"] == [1, 0.5]
    assert loss["dev"] == {"name": "dev", "who": "dev", "x": [1, 2, 3], "y": [0.5, 0.25, 0.125]}


def test_a_log_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    run.path("log.jsonl").mkdir()
    assert "log.jsonl can't be read (Is a directory)" in told(run)["wrong"]


def test_a_long_log_is_thinned_out_and_keeps_its_ends(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    log(run, 500)
    x = told(run)["curves"]["loss"][0]["x"]
    assert (len(x), x[0], x[-1]) == (POINTS, 1, 500)
    assert x == sorted(x)


def test_every_pair_can_be_looked_up_and_is_what_compare_says(page: str, folder: Path) -> None:
    shown, named = content(page), {run.id: run for run in runs.every(folder)}
    same = [run for name, run in named.items() if "judged" in shown["runs"][name] and "mlp-s1" not in name]
    assert len(same) == 5
    for a in same:
        for b in same:
            if a is b:
                continue
            found = compare(a, b)
            only_a, only_b = len(found.only_a), len(found.only_b)
            if only_a > only_b:
                continue
            difference, low, high, p, verdict = shown["pairs"][f"{only_a} {only_b} 200"]
            exact = found.difference
            assert [difference, low, high, p] == pytest.approx([exact.value, exact.low, exact.high, found.p], rel=1e-4)
            said = {verdict.replace("@other", x.id).replace("@better", y.id) for x, y in ((a, b), (b, a))}
            assert found.verdict in said


def test_listed_mistakes_are_all_that_a_run_has_wrong(page: str) -> None:
    shown = content(page)
    listed = shown["runs"][of(shown, "mlp-s0")["run"]]["listed"]
    rows = np.cumsum(listed["steps"])
    assert rows.tolist() == list(range(0, 120, 2))
    assert listed["labels"] == "".join(str(row % 10) for row in rows)
    assert listed["predicted"] == "".join(str((row + 1) % 10) for row in rows)
    assert set(listed["sure"]) == {91}


def test_pictures_are_of_the_images_and_each_is_there_once(sample_data: Data) -> None:
    pictures = Pictures(sample_data.images, room=COLUMNS + 3)
    pictures.add([5, 7, 5])
    pictures.add([-1, 10_000, *range(100, 200)])
    assert pictures.rows == [5, 7, *range(100, 100 + COLUMNS + 1)]
    with Image.open(io.BytesIO(pictures.png())) as image:
        sheet = np.asarray(image.convert("L")).astype(int)
    assert sheet.shape == (2 * 28, COLUMNS * 28)
    for place, row in enumerate(pictures.rows):
        top, left = 28 * (place // COLUMNS), 28 * (place % COLUMNS)
        assert np.abs(255 - sheet[top : top + 28, left : left + 28] - sample_data.images[row]).max() <= 255 / 15 / 2 + 1


def test_the_pictures_have_every_image_of_a_gallery(page: str) -> None:
    shown = content(page)
    wanted = {card[0] for one in shown["runs"].values() for card in one.get("mistakes", [])}
    assert wanted <= set(shown["pictures"]["rows"])


def test_the_page_may_run_its_own_script_alone_and_load_nothing(page: str) -> None:
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    assert policy.startswith("default-src 'none'; img-src data:;")
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert not re.findall(r"(?:src|href)=.?(?:https?:)?//|@import|url\((?!.data:)", page)
    assert not re.findall(r"@[A-Z_]+@", page)


def test_hostile_text_stays_text(page: str) -> None:
    assert HOSTILE not in page
    assert page.count("<script") == page.count("</script") == 2
    assert of(content(page), "deep-s1")["note"] == HOSTILE


@given(st.text() | st.sampled_from(["</script>", "<!--", "]]>", "&lt;", "\u2028"]))
def test_any_text_can_be_embedded(text: str) -> None:
    embedded = report.embedded({"text": text})
    assert not set("<>&") & set(embedded)
    assert embedded.isascii()
    assert json.loads(embedded) == {"text": text}


def test_a_file_too_large_shows_fewer_runs_in_full_and_says_so(
    folder: Path, sample_data: Data, page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "LARGEST", len(page.encode()) - 1000)
    found, broken = runs.listed(folder)
    written = report.write(tmp_path / "small.html", found, broken, folder, sample_data)
    assert written.bytes == (tmp_path / "small.html").stat().st_size <= len(page.encode()) - 1000
    assert 0 < written.told < 8
    assert "of 8 runs are shown in full" in " ".join(written.remarks)
    rows = content((tmp_path / "small.html").read_text())["rows"]
    assert len(rows) == 10
    assert sum(row["told"] for row in rows) == written.told


def test_without_the_data_there_are_no_pictures_and_it_is_said(folder: Path, tmp_path: Path) -> None:
    found, broken = runs.listed(folder)
    report.write(tmp_path / "report.html", found, broken, folder, None, "No data.")
    shown = content((tmp_path / "report.html").read_text())
    assert (shown["pictures"], shown["notice"], shown["remarks"]) == (None, "No data.", ["No data."])
    assert shown["runs"][of(shown, "deep-s0")["run"]]["mistakes"]


def test_images_of_other_data_are_not_shown_and_it_is_said(tmp_path: Path, sample_data: Data) -> None:
    run = finished_run(tmp_path, wrong=[2])
    written = report.write(tmp_path / "report.html", [run], [], tmp_path, sample_data)
    assert "made with another train.csv" in written.remarks[0]
    assert content((tmp_path / "report.html").read_text())["pictures"]["rows"] == []


def test_a_file_that_cannot_be_written_leaves_what_was_there(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "report.html").mkdir()
    with pytest.raises(DigitsError, match="a folder stands where the file should be"):
        report.write(tmp_path / "report.html", runs.every(folder), [], folder, None)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


# --- the command


def call(*arguments: str | Path) -> Any:
    return CliRunner().invoke(cli.app, ["report", *map(str, arguments)])


def test_the_command_writes_beside_the_runs_and_says_where(
    tmp_path: Path, sample_data: Data, sample_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sample = {"kind": "sample", "sha256": sample_data.sha256}
    run_of(Path("submissions"), sample_data, "mlp", 0, [1], range(50), data=sample)
    result = call("--data", sample_folder)
    assert result.exit_code == 0, result.exception
    assert result.stdout.splitlines()[-1].startswith("report: submissions/report.html (1 run, 0.")
    assert "on sample data" in result.stdout
    assert content(Path("submissions/report.html").read_text())["pictures"]["rows"] == [1]


def test_the_command_answers_in_json_and_takes_the_runs_that_are_named(folder: Path, tmp_path: Path) -> None:
    names = [run.id for run in runs.every(folder) if "deep" in run.id]
    out = tmp_path / "two.html"
    options = ("--submissions", folder, "--data", tmp_path / "none", "--out", out, "--json")
    result = call(*options, "--runs", names[0], "--runs", names[1])
    assert result.exit_code == 0, result.exception
    answer = json.loads(result.stdout)
    assert (answer["path"], answer["told"], answer["bytes"]) == (str(out), 2, out.stat().st_size)
    assert "the data is not at hand" in answer["remarks"][0]
    rows = content(out.read_text())["rows"]
    assert {row["run"] for row in rows if row["kind"] == "run"} == set(names)


def test_the_command_opens_it_in_the_browser(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    assert call("--submissions", folder, "--data", tmp_path, "--out", tmp_path / "r.html", "--open").exit_code == 0
    assert opened == [(tmp_path / "r.html").as_uri()]


@pytest.mark.parametrize(("names", "words"), [((), "there are no runs in"), (("--runs", "2026"), "no run 2026 in")])
def test_the_command_refuses_where_there_is_nothing_to_show(tmp_path: Path, names: tuple[str, ...], words: str) -> None:
    result = call("--submissions", tmp_path, "--data", tmp_path, *names)
    assert isinstance(result.exception, DigitsError)
    assert words in str(result.exception)
    assert not list(tmp_path.iterdir())


def test_hundreds_of_runs_are_shown_in_full_in_less_than_5_mb(
    tmp_path: Path, sample_data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "VERDICTS", 10)  # they take time, and no room to speak of
    rng = np.random.default_rng(0)
    labels = np.arange(600) % 10
    pattern = run_of(tmp_path, sample_data, "many", 0, [], range(600))
    log(pattern, 95)  # after the 5 that it has
    ledger = []
    for number in range(300):
        folder = tmp_path / f"20261125-{number:06}-many-s{number}"
        folder.mkdir()
        for name in ("run.json", "log.jsonl"):
            shutil.copy(pattern.path(name), folder)
        p = rng.dirichlet(np.full(10, 0.1), 600).astype(np.float32)  # about one in ten is right: nothing is left out
        right = int((p.argmax(axis=1) == labels).sum())
        write_arrays(folder / "dev.npz", {"rows": np.arange(600), "labels": labels, "probabilities": p})
        run = runs.read(folder)
        ledger.append(Run(folder, {**run.record, "scores": {"train": None, "dev": {"correct": right, "images": 600}}}))
    written = report.write(tmp_path / "report.html", ledger, [], tmp_path, sample_data)
    assert (written.runs, written.told, written.remarks) == (300, 300, ())
    assert written.bytes == (tmp_path / "report.html").stat().st_size < 5_000_000
    shown = content((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert len(shown["pictures"]["rows"]) == 600
    # Comparisons of the worst go first: their mistakes would take the room of all others.
    listed = [shown["runs"][row["run"]]["listed"] is not None for row in shown["rows"]]
    assert 0 < sum(listed) < 300
    assert listed == sorted(listed, reverse=True)
