"""Finished runs with the answers that a test wants, without a training."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digits import runs
from digits.files import write_text
from digits.nn import write_arrays
from digits.runs import Run
from digits.split import Split

SHA = {"train.csv": "a" * 64, "test.csv": "b" * 64}


def answers(labels: NDArray[Any], wrong: list[int], sure: float = 0.91) -> NDArray[np.float32]:
    """Probabilities (N, 10): the label's is `sure`, at the places `wrong` that of the next digit."""
    p = np.full((len(labels), 10), (1 - sure) / 9, np.float32)
    said = np.array(labels).copy()
    said[wrong] = (said[wrong] + 1) % 10
    p[np.arange(len(labels)), said] = sure
    return p


def finished_run(
    submissions: Path,
    name: str = "mlp",
    seed: int = 0,
    wrong: list[int] | None = None,
    rows: range | list[int] | None = range(1000),
    p: NDArray[Any] | None = None,
    test: NDArray[Any] | None = None,
    split: dict[str, Any] | None = None,
    **record: Any,
) -> Run:
    """A run that has the images in `rows` wrong that are at the places `wrong`, or gives them `p`; None: no dev score.

    The label of row i is i mod 10; it says of test image i that it is i mod 10, too, or gives `test`.
    """
    run = runs.create(
        submissions,
        f"{name}-s{seed}",
        {
            "recipe": {"name": name, "train": {"epochs": 1}},
            "seed": seed,
            "split": split or Split(0.0 if rows is None else 0.1).spec(),
            "data": {"kind": "official", "sha256": SHA, "test_images": 20},
            "code": {"commit": "c0ffee" + 34 * "0", "dirty": False, "sha256": "d" * 64},
            **record,
        },
    )
    scores: dict[str, Any] = {"train": None, "dev": None}
    if rows is not None:
        at = np.array(rows)
        labels = at % 10
        p = answers(labels, wrong or []) if p is None else p
        write_arrays(run.path("dev.npz"), {"rows": at, "labels": labels, "probabilities": p})
        scores["dev"] = {"correct": int((p.argmax(axis=1) == labels).sum()), "images": len(at)}
    test = answers(np.arange(20) % 10, []) if test is None else test
    write_arrays(run.path("test.npz"), {"probabilities": test})
    lines = [f"{number},{digit}" for number, digit in enumerate(test.argmax(axis=1), start=1)]
    write_text(run.path("submission.csv"), "\n".join(["ImageId,Label", *lines]) + "\n")
    digest = hashlib.sha256(run.path("submission.csv").read_bytes()).hexdigest()
    run.update(
        status="finished",
        scores=scores,
        seconds={"train": 12.5},
        submission={"sha256": digest, "rows": len(test)},
    )
    return run
