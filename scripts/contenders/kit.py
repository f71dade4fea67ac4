"""The kit."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import numpy as np

from contenders.networks import CLASSES, IMAGE, PREDICTED, network
from contenders.serving import Job, Step, serve
from digits import recipe
from digits.data import load
from digits.machine import single_threaded_blas
from digits.nn import Adam, Array, DataParallel, Network, SoftmaxCrossEntropy, Workers, folded, probabilities
from digits.train import STEP, Training, generator

POOL = 2048  # images in memory, to train on
SET_ASIDE = 1000  # of the competition's images, by the tutorial


@contextmanager
def prepare(job: Job) -> Iterator[Step]:
    """A step of training, one of the recipe `seed`, or the probabilities of all images in memory."""
    with single_threaded_blas(), Workers(job.cores) as workers:
        if job.what == "train":
            yield training(job, workers)
        elif job.what == "predict":
            yield prediction(job, workers)
        else:
            yield tutorial(job)


def training(job: Job, workers: Workers) -> Step:
    net = network(job.network).initialise(np.random.default_rng(0))
    images, labels = pool(POOL)

    def load(number: int, shard: int, part: slice, _: Network) -> tuple[Array, Array, np.random.Generator]:
        at = number * job.batch % POOL
        rows = slice(at + part.start, at + part.stop)
        return images[rows], labels[rows], generator(0, STEP, number, shard)

    parallel = DataParallel(net, SoftmaxCrossEntropy(), Adam(), workers, job.batch, job.shards, load)
    numbers = count(1)

    def step() -> int:
        parallel.step(job.batch, 1e-3, next(numbers))
        return job.batch

    return step


def prediction(job: Job, workers: Workers) -> Step:
    net = network(job.network).initialise(np.random.default_rng(0))
    images, _ = pool(PREDICTED)
    return lambda: len(probabilities(folded(net), workers, PREDICTED, lambda part: images[part]))


def tutorial(job: Job) -> Step:
    """The recipe `seed` for so many steps, as `digits train` does them, without the dev evaluations; counts images."""
    tables = load(Path(job.data))
    images, labels = tables.images, tables.labels
    rows, nothing = slice(SET_ASIDE, None), slice(0, 0)

    def step() -> int:
        with Workers(job.cores) as workers:
            dev = images[nothing], labels[nothing]
            steps = Training(recipe.load("seed"), images[rows], labels[rows], *dev, 0, workers)
            for _ in range(job.steps):
                next(steps)
        return job.steps * len(images[rows])

    return step


def pool(size: int) -> tuple[Array, Array]:
    """Random images (size, 28, 28, 1) and labels."""
    rng = np.random.default_rng(0)
    return rng.random((size, *IMAGE), np.float32), rng.integers(0, CLASSES, size)


if __name__ == "__main__":
    serve(prepare, "digits", "numpy")
