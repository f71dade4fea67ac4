"""A batch shared out to worker threads, gradients added in a fixed order.

A batch is cut into a number of shards that does not depend on the machine. Each shard has a replica of the network:
the same parameters, its own gradients. When all are done their gradients are added in the order of the shards, so the
same seed gives the same weights bit for bit on any number of threads. Hold BLAS to one thread while this runs: a
worker is one core.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeVar

import numpy as np

from digits.nn.losses import SoftmaxCrossEntropy, softmax
from digits.nn.network import Network
from digits.nn.optim import Optimizer
from digits.nn.pixels import Pixels
from digits.nn.scratch import Array

T = TypeVar("T")

BLOCK_PARAMETERS = 1 << 15  # that are added up and updated at a time: 128 kB of each float32 vector
PREDICTION_IMAGES = 256  # that are predicted at a time


class Workers:
    """A number of threads, one a core; a context manager that ends them."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads, "worker") if threads > 1 else None

    def map(self, work: Callable[[int], T], items: Sequence[int]) -> list[T]:
        """What `work` returns for each item, in order; the first exception of a worker is raised here."""
        return list(self._pool.map(work, items) if self._pool and len(items) > 1 else map(work, items))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool:
            self._pool.shutdown()


@dataclass(frozen=True)
class Result:
    """What a step made of a batch: the loss summed over its images, and how many of them were right."""

    loss: float
    correct: int


class DataParallel:
    """Training steps on a network whose batches are shared out.

    `state` holds the optimizer's vectors by name; with the network's `params` and the number of the step it is all
    that the next step depends on.
    """

    def __init__(
        self,
        network: Network,
        loss: SoftmaxCrossEntropy,
        optimizer: Optimizer,
        workers: Workers,
        shards: int = 4,
    ) -> None:
        self.network = network
        self.optimizer = optimizer
        self.state = {name: np.zeros_like(network.params) for name in optimizer.states}
        self.shards = shards
        self._loss = loss
        self._workers = workers
        self._decays = network.decays()
        self._replicas: list[Network] = []
        self._losses: list[SoftmaxCrossEntropy] = []

    def slices(self, images: int) -> list[slice]:
        """The shards of a batch of so many images, as even as can be."""
        shards = min(self.shards, images)
        return [slice(images * i // shards, images * (i + 1) // shards) for i in range(shards)]

    def step(
        self,
        images: int,
        load: Callable[[int, slice], tuple[Array | Pixels, Array, np.random.Generator]],
        lr: float,
        number: int,
    ) -> Result:
        """Step `number`, counted from 1, on a batch of so many images, with the learning rate `lr`.

        `load(shard, slice)` gives the images of that slice of the batch as the network takes them, their labels
        (n,), and a generator; it is called in a worker.
        """
        shards = self.slices(images)
        while len(self._replicas) < len(shards):
            self._replicas.append(self.network.replica())
            self._losses.append(SoftmaxCrossEntropy(self._loss.label_smoothing))

        @np.errstate(over="ignore", invalid="ignore")  # a loss that is not finite is what says so
        def gradients(shard: int) -> Result:
            x, labels, rng = load(shard, shards[shard])
            replica, loss = self._replicas[shard], self._losses[shard]
            result = Result(*loss.forward(replica.forward(x, rng), labels))
            replica.backward(loss.backward(images))
            return result

        @np.errstate(over="ignore", invalid="ignore")  # a loss that is not finite is what says so
        def update(start: int) -> None:
            block = slice(start, start + BLOCK_PARAMETERS)
            total = self._replicas[0].grads[block]
            for replica in self._replicas[1 : len(shards)]:
                total += replica.grads[block]
            state = {name: vector[block] for name, vector in self.state.items()}
            self.optimizer.update(self.network.params[block], total, state, lr, number, self._decays[block])

        results = self._workers.map(gradients, range(len(shards)))
        self._workers.map(update, range(0, self.network.count, BLOCK_PARAMETERS))
        sizes = [shard.stop - shard.start for shard in shards]
        self.network.observe(self._replicas[: len(shards)], sizes)
        return Result(sum(result.loss for result in results), sum(result.correct for result in results))


def probabilities(network: Network, workers: Workers, images: int, load: Callable[[slice], Array]) -> Array:
    """Probabilities (images, K) in prediction; `load(slice)` gives that slice's images as the network takes them."""
    free = [network.replica() for _ in range(workers.threads)]
    out = np.empty((images, *network.output_shape), network.params.dtype)

    @np.errstate(over="ignore", invalid="ignore")
    def predict(start: int) -> None:
        replica = free.pop()
        block = slice(start, min(start + PREDICTION_IMAGES, images))
        out[block] = softmax(replica.forward(load(block)))
        free.append(replica)

    workers.map(predict, range(0, images, PREDICTION_IMAGES))
    return out
