"""NumPy with no kit: the processor's limit, and the tutorial's network as one writes it plainly."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from contenders.serving import Job, Step, serve
from digits.data import load
from digits.nn import Array

SIZE = 2048
SET_ASIDE = 1000  # of the images, by the tutorial
ALPHA = 0.1


@contextmanager
def prepare(job: Job) -> Iterator[Step]:
    """A product of two large float32 matrices, or the tutorial's training; BLAS has all cores."""
    yield matmul() if job.what == "matmul" else tutorial(job)


def matmul() -> Step:
    """Counts floating-point operations."""
    a, b = np.random.default_rng(0).random((2, SIZE, SIZE), np.float32)
    out = np.empty_like(a)

    def step() -> int:
        np.matmul(a, b, out=out)
        return 2 * SIZE**3

    return step


def tutorial(job: Job) -> Step:
    """The tutorial's system in float64 as one writes it plainly, whole matrices at a time; counts images."""
    tables = load(Path(job.data))
    x: Array = (tables.images[SET_ASIDE:].reshape(-1, 784) / 255.0).T
    labels = tables.labels[SET_ASIDE:]
    m = int(x.shape[1])

    def step() -> int:
        rng = np.random.default_rng(0)
        w1, b1 = rng.random((10, 784)) - 0.5, rng.random((10, 1)) - 0.5
        w2, b2 = rng.random((10, 10)) - 0.5, rng.random((10, 1)) - 0.5
        for iteration in range(job.steps):
            z1 = w1.dot(x) + b1
            a1 = np.maximum(z1, 0)
            z2 = w2.dot(a1) + b2
            a2 = np.exp(z2) / sum(np.exp(z2))
            y = np.zeros((m, 10))
            y[np.arange(m), labels] = 1
            dz2 = a2 - y.T
            dw2 = 1 / m * dz2.dot(a1.T)
            db2 = 1 / m * np.sum(dz2, axis=1, keepdims=True)
            dz1 = w2.T.dot(dz2) * (z1 > 0)
            dw1 = 1 / m * dz1.dot(x.T)
            db1 = 1 / m * np.sum(dz1, axis=1, keepdims=True)
            w1, b1 = w1 - ALPHA * dw1, b1 - ALPHA * db1
            w2, b2 = w2 - ALPHA * dw2, b2 - ALPHA * db2
            if iteration % 10 == 0:
                np.sum(np.argmax(a2, 0) == labels) / m
        return job.steps * m

    return step


if __name__ == "__main__":
    serve(prepare, "numpy")
