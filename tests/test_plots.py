"""Pictures are drawn of whatever a run can come to, with nothing to warn of: every warning fails a test."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure, FigureBase
from matplotlib.text import Annotation
from PIL import Image

from digits import plots
from digits.errors import DigitsError

RUN = "20261123-181500-a-recipe-with-a-name-that-is-rather-long-s12345-sample-12"


def log(epochs: int, dev: bool = True, **curves: Callable[[float], float]) -> list[dict[str, Any]]:
    """The lines of a log; each curve is drawn from 0 to 1 over the training."""
    keys = {
        "loss": lambda t: 2.3 * 0.1**t,
        "train_accuracy": lambda t: 1 - 0.9 * 0.1**t,
        "dev_loss": lambda t: 2.3 * 0.2**t,
        "dev_accuracy": lambda t: 1 - 0.9 * 0.2**t,
        **curves,
    }
    return [
        {
            "step": epoch,
            "epoch": epoch,
            **{key: curve(epoch / epochs) if dev or "dev" not in key else None for key, curve in keys.items()},
        }
        for epoch in range(1, epochs + 1)
    ]


def probabilities(labels: np.ndarray, wrong: int, sure: float = 0.9) -> np.ndarray:
    """Probabilities with so many mistakes."""
    p = np.full((len(labels), 10), (1 - sure) / 9, np.float32)
    predicted = np.where(np.arange(len(labels)) < wrong, (labels + 1) % 10, labels)
    p[np.arange(len(labels)), predicted] = sure
    return p


def check(path: Path, width: int, height: int) -> None:
    """A picture of that size, with something on it."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.size == (width, height)
        assert np.asarray(image.convert("L")).std() > 3


def gallery(part: FigureBase) -> list[tuple[str, str, np.ndarray]]:
    """What is said above and below of each image, and what is between."""
    (axes,) = part.axes
    wall = np.asarray(axes.images[0].get_array())
    shown = []
    for title, text in zip(axes.texts[::2], axes.texts[1::2], strict=True):
        (middle, above), (same, below) = title.get_position(), text.get_position()
        assert middle == same
        left, top = int(middle - 13.5), int((above + below) / 2 - 13.5)
        assert above < top < top + 27 < below
        shown.append((title.get_text(), text.get_text(), wall[top : top + 28, left : left + 28]))
    return shown


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved."""
    saved: list[Figure] = []
    savefig = Figure.savefig

    def save(self: Figure, *arguments: Any, **options: Any) -> None:
        saved.append(self)
        savefig(self, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", save)
    return saved


LOGS = {
    "a usual one": log(12),
    "one line": log(1),
    "500 lines": log(500),
    "without a dev split": log(5, dev=False),
    "one line without a dev split": log(1, dev=False),
    "losses that stay the same": log(5, loss=lambda _: 1.0, dev_loss=lambda _: 1.0),
    "nothing learnt": log(5, train_accuracy=lambda _: 0.0, dev_accuracy=lambda _: 0.0),
    "no mistakes at the end": log(5, train_accuracy=lambda t: t, dev_accuracy=lambda t: t),
    "no mistakes ever": log(5, train_accuracy=lambda _: 1.0, dev_accuracy=lambda _: 1.0),
    "no mistakes on dev": log(5, dev_accuracy=lambda t: t),
    "no loss": log(5, loss=lambda _: 0.0, dev_loss=lambda _: 0.0),
    "huge and tiny losses": log(5, loss=lambda t: 1e30 * 1e-40**t, dev_loss=lambda _: 1e-30),
    "all the same in one line": log(
        1, loss=lambda _: 2.3, dev_loss=lambda _: 2.3, train_accuracy=lambda _: 0.1, dev_accuracy=lambda _: 0.1
    ),
}


@pytest.mark.parametrize("lines", LOGS.values(), ids=LOGS)
def test_learning_curves_are_drawn_and_their_names_do_not_lie_on_each_other(
    tmp_path: Path, figures: list[Figure], lines: list[dict[str, Any]]
) -> None:
    plots.learning_curves(tmp_path / "curve.png", lines, RUN, whole_batch=False)
    check(tmp_path / "curve.png", 1200, 480)
    (figure,) = figures
    for axes in figure.axes:
        names = [text.get_window_extent() for text in axes.texts if isinstance(text, Annotation)]
        assert len(names) == (1 if lines[0]["dev_loss"] is None else 2)
        assert not any(one.overlaps(other) for one in names for other in names if one is not other)
        for name in names:
            assert name.x0 >= 0
            assert name.x1 <= figure.bbox.x1


@pytest.mark.parametrize(("whole_batch", "unit"), [(False, "epoch"), (True, "iteration")])
def test_a_full_batch_is_counted_in_iterations(
    tmp_path: Path, figures: list[Figure], whole_batch: bool, unit: str
) -> None:
    plots.learning_curves(tmp_path / "curve.png", log(3), RUN, whole_batch)
    assert {axes.get_xlabel() for axes in figures[0].axes} == {unit}


def test_the_last_values_are_written_beside_the_curves(tmp_path: Path, figures: list[Figure]) -> None:
    plots.learning_curves(tmp_path / "curve.png", log(5), RUN, False)
    left, right = figures[0].axes
    assert {text.get_text() for text in left.texts} == {"train 0.23", "dev 0.46"}
    assert {text.get_text() for text in right.texts} == {"train 9%", "dev 18%"}


@pytest.mark.parametrize("wrong", [0, 1, 40, 100])
def test_a_confusion_matrix_counts_every_image(tmp_path: Path, figures: list[Figure], wrong: int) -> None:
    labels = np.arange(100) % 10
    predicted = probabilities(labels, wrong).argmax(axis=1)
    plots.confusion_matrix(tmp_path / "confusion.png", labels, predicted, RUN)
    check(tmp_path / "confusion.png", 768, 792)
    (axes,) = figures[0].axes
    assert f"{wrong} of 100 wrong" in axes.get_title(loc="left")
    counts = {(int(t.get_position()[1]), int(t.get_position()[0])): int(t.get_text()) for t in axes.texts}
    assert sum(counts.values()) == 100
    for (label, digit), count in counts.items():
        assert count == np.count_nonzero((labels == label) & (predicted == digit))


def test_a_confusion_matrix_of_few_labels_is_drawn(tmp_path: Path) -> None:
    plots.confusion_matrix(tmp_path / "confusion.png", np.array([3]), np.array([5]), RUN)
    check(tmp_path / "confusion.png", 768, 792)


@pytest.mark.parametrize(("wrong", "lines"), [(0, 1), (1, 1), (9, 2), (60, 6)])
def test_mistakes_are_shown_the_surest_first(tmp_path: Path, figures: list[Figure], wrong: int, lines: int) -> None:
    labels = np.arange(70) % 10
    p = probabilities(labels, wrong)
    p[np.arange(70), p.argmax(axis=1)] -= np.linspace(0.3, 0, 70).astype(np.float32)  # later rows are surer
    images = np.random.default_rng(0).integers(0, 256, (70, 28, 28), np.uint8)
    plots.mistakes(tmp_path / "mistakes.png", images, np.arange(1000, 1070), labels, p, RUN)
    check(tmp_path / "mistakes.png", 1200, int(120 * (0.5 + 1.5 * lines)))
    (figure,) = figures
    said = figure.get_suptitle()
    assert f"{wrong} of 70 dev images wrong" in said
    assert ("48 surest" in said) == (wrong > 48)
    shown = gallery(figure)
    assert len(shown) == min(wrong, 48)
    for place, (title, text, image) in enumerate(shown):
        row = wrong - 1 - place
        assert title == f"{(labels[row] + 1) % 10}, not {labels[row]}"
        assert text.endswith(f"#{1000 + row}")
        assert np.array_equal(image, images[row])


@pytest.mark.parametrize(("label", "sure"), [(None, 1.0), (None, 0.1), (3, 0.86), (4, 0.5), (4, 1.0)])
def test_a_digit_is_drawn_beside_its_probabilities(
    tmp_path: Path, figures: list[Figure], label: int | None, sure: float
) -> None:
    p = np.full(10, (1 - sure) / 9, np.float32)
    p[3] = sure + 1e-6
    image = np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8)
    plots.digit(tmp_path / "digit.png", image, p, label, f"row 41999 of train.csv (held out), seen by {RUN}")
    check(tmp_path / "digit.png", 900, 432)
    left, right = figures[0].axes
    assert left.get_title(loc="left") == "predicted 3" + ("" if label is None else f", labelled {label}")
    assert [bar.get_width() for bar in right.patches] == pytest.approx(p.tolist())


def test_a_picture_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    path = tmp_path / "no" / "digit.png"
    with pytest.raises(DigitsError) as caught:
        plots.digit(path, np.zeros((28, 28), np.uint8), np.full(10, 0.1), None, "a title")
    assert str(caught.value).startswith(f"{path} can't be written")


def test_drawing_changes_no_setting_of_matplotlib(tmp_path: Path) -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    plots.digit(tmp_path / "digit.png", np.zeros((28, 28), np.uint8), np.full(10, 0.1), None, "a title")
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("counts", [(0, 0), (3, 0), (9, 60)])
def test_disagreements_are_shown_a_side_above_the_other(
    tmp_path: Path, figures: list[Figure], counts: tuple[int, int]
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (70, 28, 28), np.uint8)
    labels = np.arange(70) % 10
    p = probabilities(labels, 70)
    sides = [plots.Disagreement(f"{RUN} right, {RUN} wrong", np.arange(count), p) for count in counts]
    plots.disagreements(tmp_path / "against.png", images, np.arange(1000, 1070), labels, sides, "a verdict")
    lines = sum(-(-min(count, 48) // 8) for count in counts)
    check(tmp_path / "against.png", 1200, int(120 * (0.9 + 1.0 + 1.5 * lines)))
    above, below = figures[0].subfigs
    assert [part.get_suptitle().endswith("surest") for part in (above, below)] == [False, counts[1] > 48]
    for part, count in zip((above, below), counts, strict=True):
        shown = gallery(part)
        assert [title for title, _, _ in shown] == [
            f"{(label + 1) % 10}, not {label}" for label in labels[: len(shown)]
        ]
        assert len(shown) == min(count, 48)
        for (_, _, image), there in zip(shown, images, strict=False):
            assert np.array_equal(image, there)
