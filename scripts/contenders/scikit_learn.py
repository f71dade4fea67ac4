"""scikit-learn's MLPClassifier."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from sklearn.neural_network import MLPClassifier

from contenders.networks import CLASSES, network
from contenders.serving import Job, Step, serve
from digits.nn import Dense

POOL = 2048  # images in memory


@contextmanager
def prepare(job: Job) -> Iterator[Step]:
    """A training pass over all images in memory, by Adam without shuffling or weight decay; BLAS has all cores.

    The variant is the images' type, by which scikit-learn reckons: "float32", or "float64", as `pixels / 255` are.
    """
    *hidden, _ = (layer.units for layer in network(job.network).layers if isinstance(layer, Dense))
    model = MLPClassifier(hidden, solver="adam", alpha=0.0, batch_size=job.batch, shuffle=False)
    rng = np.random.default_rng(0)
    images, labels = rng.random((POOL, 784), np.float32).astype(job.variant), rng.integers(0, CLASSES, POOL)

    def step() -> int:
        model.partial_fit(images, labels, classes=np.arange(CLASSES))
        return POOL

    yield step


if __name__ == "__main__":
    serve(prepare, "scikit-learn", "numpy", "scipy")
