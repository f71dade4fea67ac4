"""The report in a real browser: Chromium without a window, and what a reader does with a mouse, keys, and a phone."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from reports import HOSTILE, ledger

from digits import report, runs
from digits.comparison import compare
from digits.data import Data
from digits.runs import Run

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = os.environ.get("DIGITS_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
LAPTOP, PHONE, SMALL_PHONE = (1280, 800), (390, 844), (320, 640)


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """Chromium; where there is none, or nothing to drive it with, the tests are skipped."""
    if CHROMIUM is None:
        pytest.skip("there is no chromium on this machine: install it, or set DIGITS_CHROMIUM to one")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright, which drives the browser, is missing")
    with playwright.sync_playwright() as driver:
        # In a container it runs as root, where its own sandbox can't be set up.
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory, sample_data: Data) -> dict[str, Run]:
    """The runs of the report, by what they are."""
    return ledger(tmp_path_factory.mktemp("submissions"), sample_data)


@pytest.fixture(scope="module")
def address(known: dict[str, Run], sample_data: Data) -> str:
    """The report, as a browser's address."""
    folder = known["best"].folder.parent
    found, broken = runs.listed(folder)
    report.write(folder / "report.html", found, broken, folder, sample_data)
    return (folder / "report.html").as_uri()


class Reader:
    """A page that a test has open, of which everything is kept that should not happen."""

    def __init__(self, page: "Page", address: str) -> None:
        self.page = page
        self.address = address
        self.complaints: list[str] = []
        page.on("console", lambda message: self.complaints.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.on("dialog", lambda dialog: self.complaints.append(f"dialog: {dialog.message}"))
        page.on("request", self._asked)
        page.set_default_timeout(5000)
        page.goto(address)

    def _asked(self, request: Any) -> None:
        if not request.url.startswith(("data:", self.address)):
            self.complaints.append(f"request: {request.url}")

    def go(self, route: str) -> None:
        """Follow a link to a place in the report, and wait until it is shown."""
        self.page.evaluate(
            """route => location.hash === route || new Promise((done) => {
                addEventListener("hashchange", () => done(true), { once: true });
                location.hash = route;
            })""",
            route,
        )

    @property
    def listed(self) -> list[str]:
        """The runs in the table, in order."""
        return list(self.page.eval_on_selector_all("tr[data-run]", "rows => rows.map((row) => row.dataset.run)"))

    def arrives(self, heading: str) -> None:
        """Wait until a page with this heading is shown; it never is, the test fails."""
        self.page.get_by_role("heading", name=heading, level=1, exact=True).wait_for()


@pytest.fixture
def reader(browser: "Browser", address: str) -> Iterator[Reader]:
    """The report on a laptop; when the test is over, nothing was complained of and nothing was asked of a network."""
    with browser.new_context(viewport={"width": LAPTOP[0], "height": LAPTOP[1]}) as context:
        reader = Reader(context.new_page(), address)
        yield reader
        assert reader.complaints == []


def routes(known: dict[str, Run]) -> dict[str, str]:
    """The pages of the report, one of each kind."""
    best, second = known["best"].id, known["second"].id
    return {
        "runs": "#/",
        "labels": "#/labels",
        "compare": f"#/compare/{best}/{second}",
        "refused": f"#/compare/{best}/{known['elsewhere'].id}",
        "best": f"#/run/{best}",
        **{name: f"#/run/{known[name].id}" for name in ("worst", "second", "bare", "ensemble", "blend", "begun")},
        "unknown": "#/run/nobody",
    }


def test_the_best_is_first_and_a_click_sorts_by_any_column(reader: Reader, known: dict[str, Run]) -> None:
    page = reader.page
    assert reader.listed[:2] == [known["second"].id, known["worst"].id]
    assert page.locator("th[aria-sort]").inner_text() == "#"
    dev = page.get_by_role("button", name="Dev accuracy")
    dev.click()
    assert reader.listed[:4] == [known[name].id for name in ("elsewhere", "best", "ensemble", "bare")]
    assert page.locator("th[aria-sort=descending]").inner_text() == "Dev accuracy"
    dev.click()
    assert reader.listed[0] == known["worst"].id
    assert page.locator("th[aria-sort=ascending]").inner_text() == "Dev accuracy"
    # Whatever has no value in a column is last in either order.
    assert set(reader.listed[-3:]) == {known["begun"].id, "by hand", "20261123-101010-torn-s0"}
    for name in ("#", "Run", "Recipe", "Seed", "Public", "Gap", "Time", "Date", "Commit"):
        page.get_by_role("button", name=name, exact=True).click()
        assert page.locator("th[aria-sort]").inner_text() == name
        assert len(reader.listed) == 10
    page.get_by_role("button", name="Date", exact=True).click()
    # The newest first: these three are of the 22nd, 21st and 20th of November, and the stranger of the 1st.
    assert reader.listed[-4:] == [known["worst"].id, known["second"].id, known["best"].id, "by hand"]


def test_the_table_is_filtered_by_words_recipe_and_date(reader: Reader, known: dict[str, Run]) -> None:
    page = reader.page
    words = page.get_by_label("Filter")
    words.fill("deep s1")
    assert reader.listed == [known["second"].id]
    assert page.locator(".count").inner_text() == "1 of 10 runs"
    words.fill("WIDER")  # a note
    assert reader.listed == [known["second"].id]
    words.fill("no such thing")
    assert reader.listed == []
    assert page.get_by_text("No run is like that").is_visible()
    words.fill("")
    page.get_by_label("Recipe", exact=True).select_option("mlp")
    assert set(reader.listed) == {known["worst"].id, known["elsewhere"].id}
    page.get_by_label("Recipe", exact=True).select_option("")
    page.get_by_label("From").fill("2026-11-21")
    page.get_by_label("To").fill("2026-11-22")
    assert set(reader.listed) == {known["second"].id, known["worst"].id}
    page.get_by_label("From").fill("")
    page.get_by_label("To").fill("")
    assert len(reader.listed) == 10


def test_a_run_is_opened_and_back_leads_to_the_table_as_it_was(reader: Reader, known: dict[str, Run]) -> None:
    page, run = reader.page, known["best"]
    page.evaluate("scrollTo(0, 200)")
    page.wait_for_timeout(50)
    page.get_by_role("link", name=run.id).click()
    reader.arrives(run.id)
    assert page.title() == f"{run.id} · digits"
    assert page.evaluate("document.activeElement.tagName") == "H1"
    headings = page.locator("h2").all_inner_texts()
    for wanted in ("Learning curves", "Confusion matrix", "Accuracy of each digit", "Calibration", "Worst mistakes"):
        assert wanted in headings
    assert "Labels in doubt" in headings
    assert page.locator(".facts").inner_text().split("\n")[:4] == ["Dev accuracy", "98.50% ± 0.86", "Wrong", "3 of 200"]
    worst = page.locator("section", has=page.get_by_role("heading", name="Worst mistakes"))
    assert [text.strip() for text in worst.locator(".where").all_inner_texts()] == ["#3", "#7", "#11"]
    tile = worst.get_by_role("img", name="image in row 3 of train.csv, labelled 3, predicted 4")
    assert "data:image/png" in tile.evaluate("tile => getComputedStyle(tile).backgroundImage")
    bars = worst.get_by_role("img", name="probabilities: 0 1.0%, 1 1.0%").first
    assert "4 91.0%" in (bars.get_attribute("aria-label") or "")
    cell = page.locator("table.confusion tbody tr").nth(3).locator("td").nth(4)
    assert cell.inner_text() == "1"
    page.go_back()
    reader.arrives("Leaderboard")
    assert page.evaluate("scrollY") == 200
    page.get_by_label("Filter").fill("deep")
    page.get_by_role("link", name=run.id).click()
    reader.arrives(run.id)
    assert page.evaluate("scrollY") == 0
    page.go_back()
    reader.arrives("Leaderboard")
    assert page.get_by_label("Filter").input_value() == "deep"
    assert len(reader.listed) == 2


def test_two_runs_are_compared_as_the_command_does(reader: Reader, known: dict[str, Run]) -> None:
    page, a, b = reader.page, known["best"], known["second"]
    found = compare(a, b)
    for run in (a, b):
        page.get_by_role("checkbox", name=f"Choose {run.id}").check()
    page.get_by_role("link", name="Compare these two").click()
    reader.arrives("Compare two runs")
    verdict = found.verdict.replace(a.id, "A").replace(b.id, "B")
    assert page.locator(".verdict").inner_text() == f"{verdict}."
    told = page.locator("main").inner_text().replace("−", "-")
    assert f"95 % interval {100 * found.difference.low:+.2f} to {100 * found.difference.high:+.2f}" in told
    assert f"p = {found.p:.3f}" in told
    for who, places in (("A", found.only_a), ("B", found.only_b)):
        section = page.locator("section", has=page.get_by_role("heading", name=f"Only {who} has these right"))
        assert set(section.locator(".where").all_inner_texts()) == {f"#{row}" for row in found.a.rows[places]}
    four = page.locator("table.fourfold td").all_inner_texts()
    assert four[-4:] == ["193", "4", "2", "1"]
    page.get_by_role("button", name="Exchange A and B").click()
    exchanged = verdict.replace("A", "?").replace("B", "A").replace("?", "B")
    page.locator(".verdict", has_text=exchanged).wait_for()
    page.get_by_label("Run B").select_option(known["worst"].id)
    page.locator(".verdict", has_text="more than chance").wait_for()
    assert page.get_by_text("digits compare deep mlp --recipes").is_visible()


def test_runs_judged_on_different_images_are_not_compared(reader: Reader, known: dict[str, Run]) -> None:
    reader.go(routes(known)["refused"])
    assert "judged on different images" in reader.page.locator(".notice").inner_text()
    assert not reader.page.locator(".verdict").count()
    reader.go(f"#/compare/{known['best'].id}/{known['bare'].id}")
    assert "dev.npz is not here" in reader.page.locator(".notice").inner_text()
    reader.go(f"#/compare/{known['best'].id}/{known['best'].id}")
    assert "the same run" in reader.page.locator(".notice").inner_text()


def test_all_is_done_by_keys_alone(reader: Reader, known: dict[str, Run]) -> None:
    page = reader.page

    def focused(script: str) -> Any:
        return page.evaluate(f"(() => {{ const on = document.activeElement; return {script}; }})()")

    def tab_to(script: str) -> None:
        for _ in range(80):
            page.keyboard.press("Tab")
            if focused(script):
                return
        pytest.fail(f"the Tab key doesn't lead to {script}")

    page.keyboard.press("Tab")
    assert focused("on.textContent") == "Skip to the content"
    assert page.get_by_text("Skip to the content").is_visible()
    tab_to("on.textContent === 'Seed'")
    assert float(focused("parseFloat(getComputedStyle(on).outlineWidth)")) >= 2
    page.keyboard.press("Enter")
    assert page.locator("th[aria-sort]").inner_text() == "Seed"
    assert focused("on.textContent") == "Seed"
    for run in (known["best"], known["second"]):
        tab_to(f"on.getAttribute('aria-label') === 'Choose {run.id} for a comparison'")
        page.keyboard.press("Space")
        assert focused("on.checked")
    tab_to("on.textContent === 'Compare these two'")
    page.keyboard.press("Enter")
    reader.arrives("Compare two runs")
    page.keyboard.press("Escape")
    reader.arrives("Leaderboard")
    tab_to(f"on.textContent === '{known['best'].id}'")
    page.keyboard.press("Enter")
    reader.arrives(known["best"].id)
    page.reload()
    reader.arrives(known["best"].id)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # on the way past the head of the page
    assert focused("on.id") == "main"
    reader.arrives(known["best"].id)
    tab_to("on.tagName === 'SUMMARY'")
    page.keyboard.press("Enter")
    assert page.locator("details[open] table").first.is_visible()


def test_what_is_wrong_and_what_is_missing_is_shown(reader: Reader, known: dict[str, Run]) -> None:
    page = reader.page
    assert page.get_by_text("run.json can't be read").is_visible()
    assert page.get_by_text("can’t be read", exact=True).is_visible()
    assert page.get_by_text("interrupted", exact=True).is_visible()
    reader.go(routes(known)["bare"])
    assert "Not here: dev.npz" in page.locator("main").inner_text()
    reader.go(routes(known)["ensemble"])
    assert page.get_by_text("Each line is a member").is_visible()
    reader.go(routes(known)["blend"])
    assert page.get_by_role("link", name=known["ensemble"].id).is_visible()
    reader.go(routes(known)["unknown"])
    assert "no run nobody" in page.locator("main").inner_text()


def test_hostile_text_stays_text(reader: Reader, known: dict[str, Run]) -> None:
    page = reader.page
    assert page.get_by_text(HOSTILE).is_visible()
    reader.go(routes(known)["second"])
    page.get_by_text(HOSTILE).wait_for()
    assert page.title() == f"{known['second'].id} · digits"
    assert page.locator("img, #bad").count() == 0
    reader.go("#/")
    page.get_by_label("Recipe", exact=True).select_option("<b id=bad>bold</b>")
    assert reader.listed == [known["begun"].id]
    assert page.locator("img, #bad").count() == 0


def test_dev_against_public_scores_is_a_chart_with_words(reader: Reader, known: dict[str, Run]) -> None:
    page = reader.page
    chart = page.get_by_role("img", name="Dev accuracy against public score of 2 runs, 1 of them outside the band")
    assert {"public score, %", "dev accuracy, %"} <= set(chart.locator("text").all_text_contents())
    assert chart.locator("polygon.band").count() == 1
    page.get_by_text("The runs as a table").click()
    rows = page.locator("details[open] tbody tr").all_inner_texts()
    assert any(known["worst"].id in row and "90.000%" in row for row in rows)
    page.locator("details[open]").get_by_role("link", name=known["worst"].id).click()
    reader.arrives(known["worst"].id)
    page.go_back()
    chart.locator("a").first.click()
    reader.arrives(known["second"].id)


@pytest.mark.parametrize("size", [PHONE, SMALL_PHONE, LAPTOP], ids=str)
def test_nothing_is_wider_than_the_screen(
    browser: "Browser", address: str, known: dict[str, Run], size: tuple[int, int]
) -> None:
    with browser.new_context(viewport={"width": size[0], "height": size[1]}) as context:
        reader = Reader(context.new_page(), address)
        for name, route in routes(known).items():
            reader.go(route)
            assert reader.page.evaluate("document.documentElement.scrollWidth") <= size[0], name
        if size[0] < 860:
            reader.go("#/")
            reader.page.get_by_label("Sort by").select_option("dev")
            assert reader.listed[0] == known["elsewhere"].id
            reader.page.get_by_role("button", name="descending").click()
            assert reader.listed[0] == known["worst"].id
        assert reader.complaints == []


def test_the_table_fits_at_every_width(reader: Reader) -> None:
    ends = "['.board', '.filters'].map((name) => document.querySelector(name).getBoundingClientRect().right)"
    for width in (861, 1010, 1011, 1180, 1181, 1260, 1261, 1800):
        reader.page.set_viewport_size({"width": width, "height": 700})
        table, page = reader.page.evaluate(ends)
        assert table <= page + 1, width


# The least contrast of the page's texts with what is behind them, as WCAG 2.2 reckons it, and the text that has it.
CONTRAST = """() => {
  const parse = (text) => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return [r, g, b, a]; };
  const over = (top, below) => below.map((value, k) => (k === 3 ? 1 : top[k] * top[3] + value * (1 - top[3])));
  const behind = (element) => {
    const layers = [];
    for (let one = element; one; one = one.parentElement) layers.push(parse(getComputedStyle(one).backgroundColor));
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]);
  };
  const light = ([r, g, b]) => [r, g, b].map((value) => value / 255)
    .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4))
    .reduce((sum, value, k) => sum + value * [0.2126, 0.7152, 0.0722][k], 0);
  let worst = [99, ""];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    const box = element.getBoundingClientRect();
    if (!own || !box.width || ["SCRIPT", "STYLE", "TITLE", "title", "OPTION"].includes(element.tagName)) continue;
    const style = getComputedStyle(element), ground = behind(element);
    const ink = over(parse(element.closest("svg") ? style.fill : style.color), ground);
    const [one, other] = [light(ink), light(ground)].sort((a, b) => b - a);
    const contrast = (one + 0.05) / (other + 0.05);
    if (contrast < worst[0]) worst = [contrast, element.textContent.slice(0, 60)];
  }
  return worst;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_stand_out_and_all_that_is_drawn_has_a_name(
    browser: "Browser", address: str, known: dict[str, Run], scheme: Any
) -> None:
    nameless = """elements => elements.filter((one) => !(one.getAttribute("aria-label") || one.textContent.trim()
        || (one.labels && one.labels.length))).map((one) => one.outerHTML.slice(0, 80))"""
    with browser.new_context(color_scheme=scheme, viewport={"width": LAPTOP[0], "height": LAPTOP[1]}) as context:
        reader = Reader(context.new_page(), address)
        assert reader.page.evaluate("document.documentElement.dataset.theme") == scheme
        for name, route in routes(known).items():
            reader.go(route)
            contrast, text = reader.page.evaluate(CONTRAST)
            assert contrast >= 4.5, f"{name}: {text!r} has a contrast of {contrast:.2f}"
            drawn = "svg:not([aria-hidden]), .tile, button, a, input, select"
            assert reader.page.eval_on_selector_all(drawn, nameless) == [], name
            assert reader.page.locator("svg:not([aria-hidden]):not([role=img])").count() == 0
            assert reader.page.locator("h1").count() == 1
        assert reader.complaints == []


def test_light_and_dark_can_be_chosen_and_are_remembered(reader: Reader) -> None:
    page = reader.page
    theme = "document.documentElement.dataset.theme"
    ground = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(theme) == "light"
    light = page.evaluate(ground)
    page.get_by_role("button", name="Show the report dark").click()
    assert page.evaluate(theme) == "dark"
    assert page.evaluate(ground) != light
    page.reload()
    assert page.evaluate(theme) == "dark"
    page.get_by_role("button", name="Show the report light").click()
    assert page.evaluate(ground) == light


def test_without_data_the_galleries_say_that_there_are_no_images(
    browser: "Browser", known: dict[str, Run], tmp_path: Path
) -> None:
    found = runs.every(known["best"].folder.parent)
    report.write(tmp_path / "report.html", found, [], tmp_path, None, "Images are not shown: no data.")
    with browser.new_context() as context:
        reader = Reader(context.new_page(), (tmp_path / "report.html").as_uri())
        assert reader.page.get_by_text("Images are not shown: no data.").is_visible()
        reader.go(routes(known)["best"])
        assert reader.page.get_by_role("img", name="image in row 3 of train.csv, labelled 3").first.is_visible()
        assert reader.page.get_by_text("Images are not shown: no data.").is_visible()
        assert reader.complaints == []
