"""A batch shared out to worker processes, gradients added in a fixed order.

A batch is cut into a number of shards that does not depend on the machine. Each shard has a replica of the network:
the same parameters, its own gradients. When all are done their gradients are added in the order of the shards, so the
same seed gives the same weights bit for bit on any number of workers. Hold BLAS to one thread while this runs: a
worker is one core.

Workers are processes, for threads would wait for each other: a layer is many short calls of NumPy, and before and
after each of them a thread needs the interpreter's lock. They are forked, so that they have all that this process has,
and share the memory of the flat vectors, so that nothing is sent but a few numbers.
"""

import math
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np

from digits.nn.averaging import move
from digits.nn.gradient import Gradient
from digits.nn.losses import SoftmaxCrossEntropy, softmax
from digits.nn.network import Network, leaves
from digits.nn.optim import Optimizer, clipping, sum_of_squares
from digits.nn.pixels import Pixels
from digits.nn.products import SMALL_PRODUCTS
from digits.nn.scratch import Array, shared_zeros

PREDICTION_IMAGES = 64, 512  # that are predicted at a time, at least and at most
# Numbers that a layer makes of them, at most: larger buffers do not stay in cache, but without AVX-512 products of more
# images are quicker.
PREDICTION_NUMBERS = 1 << (20 if SMALL_PRODUCTS else 21)
STATISTICS_IMAGES = 128  # whose statistics are taken together, about a batch's
NUMBERS = 5  # that a call of a team has at most
AWAKE_SECONDS = 0.001  # of looking at a semaphore before sleeping on it: waking up takes longer than most waits
LOOK_SECONDS = 1.0  # of sleep before looking whether the other side is still there
FORK = multiprocessing.get_context("fork")

# On macOS neither Accelerate, which may be NumPy's BLAS, nor other system libraries survive a fork.
FORKS = sys.platform != "darwin"


# The parts of a step, each of which all workers are done with before the next begins.
GRADIENTS, TOTAL, UPDATE = range(3)


class WorkerError(RuntimeError):
    """A worker process has ended before its time."""


class Team:
    """Workers that do a job whenever they are called: `job(worker, *numbers)`, worker 0 being the caller.

    They are copies of this process as it is when the team is made; what they are to give back, or what changes
    afterwards, must lie in memory made by `shared_zeros`. The first exception of a job, in the order of the workers, is
    raised in the caller, and WorkerError where a worker is killed.
    """

    def __init__(self, workers: int, job: Callable[..., None]) -> None:
        self._job = job
        self._numbers = shared_zeros((NUMBERS,), np.float64)
        self._count = shared_zeros((1,), np.int64)  # of numbers; -1 is the end
        self._failed = shared_zeros((workers,), np.bool_)  # who has something to report
        self._go = [FORK.Semaphore(0) for _ in range(workers - 1)]
        self._done = [FORK.Semaphore(0) for _ in range(workers - 1)]
        self._reports = [FORK.Pipe(duplex=False) for _ in range(workers - 1)]
        self._caller = os.getpid()
        kind: Any = FORK.Process if FORKS else threading.Thread
        self._members = [kind(target=self._serve, args=(worker,), daemon=True) for worker in range(1, workers)]
        with warnings.catch_warnings():
            # Python 3.12 on warns of threads that a fork leaves behind: they are BLAS's, which starts them anew, and
            # those that draw a progress bar, which a worker has not.
            warnings.filterwarnings("ignore", message=".*fork", category=DeprecationWarning)
            for member in self._members:
                member.start()

    def __call__(self, *numbers: float) -> None:
        """Do the job with these numbers, of which there are few; return when all workers are done."""
        self._numbers[: len(numbers)] = numbers
        self._count[0] = len(numbers)
        for go in self._go:
            go.release()
        failures: list[BaseException] = []
        try:
            self._job(0, *numbers)
        except Exception as error:  # noqa: BLE001  raised when the others are done
            failures.append(error)
        for worker, (done, member, (report, _)) in enumerate(
            zip(self._done, self._members, self._reports, strict=True), 1
        ):
            while not patiently(done):
                if not member.is_alive():
                    how = f"signal {-member.exitcode}" if FORKS and member.exitcode else "no reason given"
                    raise WorkerError(f"a worker process has ended ({how}): is there too little memory?")
            if self._failed[worker]:
                self._failed[worker] = False
                failures.append(pickle.loads(report.recv_bytes()))
        if failures:
            raise failures[0]

    def close(self) -> None:
        """End the workers."""
        self._count[0] = -1
        for go in self._go:
            go.release()
        for member in self._members:
            member.join()
        for pipe in self._reports:
            for end in pipe:
                end.close()
        self._members, self._go, self._done, self._reports = [], [], [], []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _serve(self, worker: int) -> None:
        """What a worker does until the team is closed or its caller is gone."""
        if FORKS:  # Ctrl-C goes to all processes of a terminal: the caller decides what comes of it
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        go, done, (_, report) = self._go[worker - 1], self._done[worker - 1], self._reports[worker - 1]
        while True:
            while not patiently(go):
                if FORKS and os.getppid() != self._caller:
                    return
            count = int(self._count[0])
            if count < 0:
                return
            try:
                self._job(worker, *self._numbers[:count].tolist())
            except Exception as error:  # noqa: BLE001  raised in the caller
                report.send_bytes(pickled(error))
                self._failed[worker] = True
            done.release()


def patiently(semaphore: Any) -> bool:
    """Wait for a semaphore, awake at first; False after a while without it."""
    end = time.perf_counter() + (AWAKE_SECONDS if FORKS else 0.0)  # threads would keep each other from working
    while time.perf_counter() < end:
        if semaphore.acquire(block=False):
            return True
        os.sched_yield()  # to whoever has work for this core
    return bool(semaphore.acquire(timeout=LOOK_SECONDS))


def pickled(error: Exception) -> bytes:
    """The exception, or one that says the same where it can't be sent."""
    try:
        content = pickle.dumps(error)
        pickle.loads(content)
    except Exception:  # noqa: BLE001  whatever its class makes of being sent
        content = pickle.dumps(WorkerError(f"{type(error).__name__}: {error}"))
    return content


class Workers:
    """How many workers there are, one a core; a context manager that ends their teams."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._teams = ExitStack()

    def team(self, job: Callable[..., None], most: int) -> Team:
        """The workers, or the `most` that there is work for, with a job to do until this context ends."""
        return self._teams.enter_context(Team(max(min(self.count, most), 1), job))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._teams.close()


@dataclass(frozen=True)
class Result:
    """What a step made of a batch: the loss summed over its images, and how many of them were right."""

    loss: float
    correct: int


Load = Callable[[int, int, slice, Network], tuple[Array | Pixels, Array, np.random.Generator]]
Report = Callable[[int, slice, Array], None]


class DataParallel:
    """Training steps on a network whose batches, of at most `batch` images, are shared out.

    `load(number, shard, slice, replica)` gives, of the batch of step `number`, that slice's images as the network takes
    them, their labels (n,) or targets (n, K), and a generator; it may ask the replica, a network as it is at that step,
    what it predicts. It is called in the workers, which know of the caller's state only what it was at the first step,
    but for memory made by `shared_zeros`. `report(number, slice, losses)` is called
    there too, with what came of each of the images.

    `state` holds the optimizer's vectors by name; with the network's `params` and the number of the step it is all that
    the next step depends on. `clip` is the length that a batch's gradient is cut to, 0 for any. `average`, a vector
    like `params` in memory made by `shared_zeros`, follows them where a step is told to.
    """

    def __init__(
        self,
        network: Network,
        loss: SoftmaxCrossEntropy,
        optimizer: Optimizer,
        workers: Workers,
        batch: int,
        shards: int,
        load: Load,
        clip: float = 0.0,
        average: Array | None = None,
        report: Report | None = None,
    ) -> None:
        self.network = network
        self.optimizer = optimizer
        self.state = {name: shared_zeros(network.params.shape, network.params.dtype) for name in optimizer.states}
        self.batch = batch
        self.shards = min(shards, batch)  # a shard is of an image at least
        self.clip = clip
        self.average = average
        self._load, self._report = load, report
        self._workers = workers
        self._replicas = [network.replica() for _ in range(self.shards)]
        hidden = network.hidden() if optimizer.matrices else []
        self._shapes = {place.start: shape for place, shape in hidden}  # of the blocks that are matrices
        self._gradient = Gradient(network, self._replicas, batch, [place for place, _ in hidden])
        # Matrices take the longest, by their size: they come first, the largest of them at the head.
        self._blocks = sorted(
            self._gradient.blocks, key=lambda block: -math.prod(self._shapes.get(block.place.start, (0,)))
        )
        self._decayed = [network.decayed(block.place.start, block.place.stop) for block in self._blocks]
        self._squares = shared_zeros((len(self._blocks),), np.float64)  # of the gradient, summed in each block
        self._losses = [SoftmaxCrossEntropy(loss.label_smoothing) for _ in range(self.shards)]
        self._results = shared_zeros((self.shards, 2), np.float64)  # the loss and the number of right ones
        self._team: Team | None = None

    def slices(self, images: int) -> list[slice]:
        """The shards of a batch of so many images, as even as can be."""
        shards = min(self.shards, images)
        return [slice(images * i // shards, images * (i + 1) // shards) for i in range(shards)]

    def step(self, images: int, lr: float, number: int, rate: float = 0.0) -> Result:
        """Step `number`, counted from 1, on a batch of so many images, with the learning rate `lr`.

        Afterwards the average moves by `rate` towards the parameters. Raises ValueError if the images are too many.
        """
        if images > self.batch:
            raise ValueError(f"{images} images are more than a batch of {self.batch}")
        if self._team is None:
            self._team = self._workers.team(self._share, max(self.shards, len(self._blocks)))
        self._team(GRADIENTS, images, number)
        if self.clip:
            self._team(TOTAL, images, number)
        self._team(UPDATE, images, number, lr, rate)
        sizes = [shard.stop - shard.start for shard in self.slices(images)]
        self.network.observe(self._replicas[: len(sizes)], sizes)
        loss, correct = self._results[: len(sizes)].sum(axis=0).tolist()
        return Result(loss, int(correct))

    @np.errstate(over="ignore", invalid="ignore")  # a loss that is not finite is what says so
    def _share(
        self, worker: int, part: float, images: float, number: float, lr: float = 0.0, rate: float = 0.0
    ) -> None:
        """A worker's share of a part of a step."""
        count, team = int(images), self._workers.count
        shards = self.slices(count)
        if part == GRADIENTS:
            for shard in dealt(len(shards), worker, team):
                replica, loss = self._replicas[shard], self._losses[shard]
                x, labels, rng = self._load(int(number), shard, shards[shard], replica)
                self._results[shard] = loss.forward(replica.forward(x, rng), labels)
                if self._report:
                    self._report(int(number), shards[shard], loss.losses)
                self._gradient.expect(shard, shards[shard])
                replica.backward(loss.backward(count))
            return
        for at in range(worker, len(self._blocks), team):
            block = self._blocks[at]
            if part == UPDATE and self.clip:
                total = self._gradient.kept(block)
                total *= clipping(self._squares, self.clip)
            else:
                total = self._gradient.of(block, len(shards), count, keep=part == TOTAL)
            if part == TOTAL:
                self._squares[at] = sum_of_squares(total)
            else:
                self._update(at, total, lr, int(number), rate)

    def _update(self, at: int, gradient: Array, lr: float, number: int, rate: float) -> None:
        """Change a block of the parameters, given the whole batch's gradient."""
        block = self._blocks[at].place
        params = self.network.params[block]
        shape = self._shapes.get(block.start, params.shape)
        state = {name: vector[block].reshape(shape) for name, vector in self.state.items()}
        self.optimizer.update(params.reshape(shape), gradient.reshape(shape), state, lr, number, self._decayed[at])
        if rate and self.average is not None:
            move(self.average[block], params, rate)


def dealt(count: int, worker: int, workers: int) -> list[int]:
    """A worker's shards of so many, dealt to and fro: the first ones of a full batch have the most lit pixels."""
    rounds = range(0, count, workers)
    turns = [start + (workers - 1 - worker if turn % 2 else worker) for turn, start in enumerate(rounds)]
    return [shard for shard in turns if shard < count]


def probabilities(network: Network, workers: Workers, images: int, load: Callable[[slice], Array]) -> Array:
    """Probabilities (images, K) in prediction; `load(slice)` gives that slice's images as the network takes them."""
    out = shared_zeros((images, *network.output_shape), network.params.dtype)
    size = predicted_at_once(network)
    starts = range(0, images, size)
    count = max(min(workers.count, len(starts)), 1)

    @np.errstate(over="ignore", invalid="ignore")
    def predict(worker: int) -> None:
        replica = network.replica()
        for start in starts[worker::count]:
            block = slice(start, min(start + size, images))
            out[block] = softmax(replica.forward(load(block)))

    with Team(count, predict) as team:
        team()
    return out


def predicted_at_once(network: Network) -> int:
    """How many images a network predicts best at a time, a power of two: of small ones many."""
    shapes = [network.input_shape, *(layer.output_shape for _, layer in leaves(network.layers))]
    fitting = PREDICTION_NUMBERS // max(math.prod(shape) for shape in shapes)
    least, most = PREDICTION_IMAGES
    return min(max(1 << fitting.bit_length() >> 1, least), most)


def renew_statistics(
    network: Network, workers: Workers, images: int, load: Callable[[slice], tuple[Array, np.random.Generator]]
) -> None:
    """Observe the network's statistics anew, for weights that training has never passed images through.

    They become the means of those that blocks of the images have, each seen as in training; `load(slice)` gives that
    slice's images as the network takes them, and a generator. It is the same on any number of workers.
    """
    if not len(network.statistics):
        return
    blocks = -(-images // STATISTICS_IMAGES)
    bounds = [images * i // blocks for i in range(blocks + 1)]
    seen = shared_zeros((blocks, len(network.statistics)), network.statistics.dtype)
    count = min(workers.count, blocks)

    @np.errstate(over="ignore", invalid="ignore")
    def observe(worker: int) -> None:
        replica = network.replica()
        for number in range(worker, blocks, count):
            replica.forward(*load(slice(bounds[number], bounds[number + 1])))
            seen[number] = replica.batch_statistics

    with Team(count, observe) as team:
        team()
    network.statistics[...] = np.average(seen, axis=0, weights=np.diff(bounds))
