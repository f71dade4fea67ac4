"""The training loop: steps, evaluation, checkpoints, and going on from one bit for bit."""

import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digits.augment import augment
from digits.errors import DigitsError
from digits.files import write_whole
from digits.nn import (
    Array,
    CheckpointError,
    DataParallel,
    Dense,
    Flatten,
    Network,
    Pixels,
    SoftmaxCrossEntropy,
    Workers,
    read_arrays,
    renew_statistics,
    shared_zeros,
    write_arrays,
)
from digits.predict import Images, network_input, predict
from digits.recipe import CLASSES, Recipe
from digits.stats import Score

Labels = NDArray[np.intp]


class DivergedError(DigitsError):
    """The loss is no longer finite: the training can't go on."""


# What a generator is for; with the seed and the numbers of the epoch, step and shard it says all of its stream. So
# nothing random is carried from step to step, and a training that goes on needs no generator's state.
PARAMETERS, ORDER, STEP, STATISTICS = range(4)

# By which averaged weights get batch norm's statistics: their standard error is then a ninetieth of the spread at most,
# and far less where a channel is of many pixels. What a training itself observes is mostly of its last 20 batches.
STATISTICS_IMAGES = 8192

PROBED = 16, 64  # images whose losses are asked for at a time: of two numbers only, so that buffers and plans stay


def generator(seed: int, purpose: int, *place: int) -> np.random.Generator:
    """The generator of one stream of random numbers of a training: for a purpose, at one or two numbers of a place.

    Philox (Salmon et al. 2011, SC11) makes its numbers from a key and a counter, so that any stream is at hand at once.
    """
    first, second = (*place, 0, 0)[:2]
    return np.random.Generator(np.random.Philox(key=seed, counter=purpose << 192 | first << 128 | second << 64))


@dataclass(frozen=True)
class Record:
    """A line of log.jsonl: where the training stands at the end of an epoch.

    `loss` and `train_accuracy` are means over the epoch's images as they were trained on, before each step's update
    and with dropout, the hard ones among them more often where they are mined; of a mixed image the label is the one
    with the larger share. The dev figures are of the weights as they are now, averaged if the recipe averages them,
    None without a dev split. `seconds` is the time trained so far.
    """

    step: int
    epoch: int
    lr: float
    loss: float
    train_accuracy: float
    dev_loss: float | None
    dev_accuracy: float | None
    seconds: float


@dataclass(frozen=True)
class Progress:
    """Where a training is after a step: `loss` is the batch's mean; `record` is there when a line is to be logged."""

    step: int
    loss: float
    record: Record | None


class Training:
    """The training of one network on images (N, 28, 28) and labels (N,), judged on dev images if there are any.

    In place of the labels there can be targets (N, 10): shares of the classes, which add up to 1. It is an iterator:
    each `next` is one step. `save` and `restore` hold all its state, between any two steps.
    """

    def __init__(
        self,
        recipe: Recipe,
        images: Images,
        labels: Labels | Array,
        dev_images: Images,
        dev_labels: Labels,
        seed: int,
        workers: Workers,
    ) -> None:
        self.recipe = recipe
        self.seed = seed
        self.network = recipe.build().initialise(generator(seed, PARAMETERS))
        self._images, self._labels = images, labels
        self._dev_images, self._dev_labels = dev_images, dev_labels
        self._workers = workers
        self._averaged = None if recipe.average.name == "none" else recipe.build()
        self._averaged_at = -1  # the step at which the averaged network was last made ready to predict
        self._count = count = recipe.mining.count(len(images))  # of an epoch
        self.whole = recipe.train.batch_size == "all"
        self._batch = count if recipe.train.batch_size == "all" else min(recipe.train.batch_size, count)
        self._parallel = DataParallel(
            self.network,
            recipe.loss,
            recipe.optimizer,
            workers,
            self._batch,
            recipe.train.shards,
            self._load,
            recipe.train.clip,
            None if self._averaged is None else self._averaged.params,
            self._report if recipe.mining.share < 1 else None,
        )
        self._epoch_steps = math.ceil(count / self._batch)
        self.steps = self._epoch_steps * recipe.train.epochs
        self.step = 0
        self.seconds = 0.0
        self._loss, self._correct = 0.0, 0  # sums over the epoch so far
        # An image's loss when it was last learnt from, and as it was when the epoch began, which says what it is of.
        self._losses, self._losses_before = (shared_zeros((len(images),), np.float32) for _ in range(2))
        self._losses[...] = np.inf
        # The images of the epoch in the order of its steps, and which of them are chosen as hard.
        self._order, self._hard = shared_zeros((count,), np.intp), shared_zeros((count,), np.bool_)
        if self.whole:
            self._order[...] = _by_rarest_pixel(images)
        self._order_epoch = -1
        self._pixels: dict[int, tuple[Array | Pixels, Labels | Array]] = {}

    def __iter__(self) -> Iterator[Progress]:
        return self

    def __next__(self) -> Progress:
        """One step. Raises DivergedError where the loss is no longer finite."""
        if self.step >= self.steps:
            raise StopIteration
        start = time.perf_counter()
        epoch, at = divmod(self.step, self._epoch_steps)
        if at == 0:
            self._loss, self._correct = 0.0, 0
        if self._order_epoch != epoch and not self.whole:
            if at == 0:
                self._losses_before[...] = self._losses
            rng = generator(self.seed, ORDER, epoch)
            self._order[...], self._hard[...] = self.recipe.mining.chosen(self._losses_before, rng)
            self._order_epoch = epoch
        size = min((at + 1) * self._batch, self._count) - at * self._batch
        lr = self.recipe.optimizer.lr * self.recipe.schedule.multiple(self.step, self.steps)
        rate = self.recipe.average.rate(self.step + 1, self.steps, self._epoch_steps)
        result = self._parallel.step(size, lr, self.step + 1, rate)
        self._check_finite(result.loss / size, lr)
        self.step += 1
        self._loss += result.loss
        self._correct += result.correct
        self.seconds += time.perf_counter() - start

        record = None
        epochs = self.recipe.train.epochs
        if at + 1 == self._epoch_steps and ((epoch + 1) % self.recipe.train.report_every == 0 or epoch + 1 == epochs):
            if not np.isfinite(self.network.params).all():
                raise self._diverged(f"there are weights that are not finite after step {self.step}", lr)
            record = self._record(epoch + 1, lr)
        return Progress(self.step, result.loss / size, record)

    def save(self, path: Path) -> None:
        """Write the state to a checkpoint. Raises DigitsError if it can't be written; the one before stays."""
        progress = {"step": self.step, "seconds": self.seconds, "loss": self._loss, "correct": self._correct}
        arrays = {**self._vectors(), "progress": np.array(json.dumps(progress))}
        write_whole(path, lambda temporary: write_arrays(temporary, arrays))

    def restore(self, path: Path) -> None:
        """Go back to a checkpoint's state. Raises DigitsError if it is damaged or of another network."""
        try:
            arrays = read_arrays(path)
            progress: dict[str, Any] = json.loads(str(arrays["progress"]))
            vectors = self._vectors()
            for name, vector in vectors.items():
                if arrays[name].shape != vector.shape or arrays[name].dtype != vector.dtype:
                    raise ValueError(f"{name} is not of this network")
            step, seconds = int(progress["step"]), float(progress["seconds"])
            loss, correct = float(progress["loss"]), int(progress["correct"])
            if not 0 <= step <= self.steps:
                raise ValueError(f"it is of step {step} of {self.steps}")
        except (CheckpointError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise DigitsError(
                f"the checkpoint {path} can't be used ({error}): delete it, and --resume starts the run again"
            ) from error
        for name, vector in vectors.items():
            vector[...] = arrays[name]
        self.step, self.seconds, self._loss, self._correct = step, seconds, loss, correct
        self._averaged_at = self._order_epoch = -1

    def predictor(self) -> Network:
        """The network to judge and to predict with: of the averaged weights, if there are any yet, else of the last."""
        if self._averaged is None or self.step < self.recipe.average.first(self.steps, self._epoch_steps):
            return self.network
        if self._averaged_at != self.step:
            self._averaged_at = self.step
            count = min(STATISTICS_IMAGES, len(self._images))
            rows = np.arange(count) * len(self._images) // count

            def load(block: slice) -> tuple[Array, np.random.Generator]:
                rng = generator(self.seed, STATISTICS, block.start)
                images, _ = self._augmented(rows[block], rng)
                return network_input(images), rng

            renew_statistics(self._averaged, self._workers, count, load)
        return self._averaged

    def evaluate(self, images: Images, labels: Labels) -> tuple[Score, float]:
        """The score of the weights as they are, averaged if the recipe averages them, and the mean cross-entropy."""
        return judged(predict(self.predictor(), images, self._workers), labels)

    def _load(
        self, number: int, shard: int, part: slice, replica: Network
    ) -> tuple[Array | Pixels, Array, np.random.Generator]:
        """A shard of a step's batch as the network takes it: what the workers call."""
        rng = generator(self.seed, STEP, number - 1, shard)
        if self.whole and self.recipe.augment.none:
            return *self._whole_shard(shard, part), rng
        rows = self._order[self._place(number, part)]
        hard = np.flatnonzero(self._hard[self._place(number, part)])
        if self.recipe.mining.draws > 1 and len(hard):
            images, labels = self._hardest_draws(rows, hard, rng, replica)
        else:
            images, labels = self._augmented(rows, rng)
        return network_input(images), labels, rng

    def _report(self, number: int, part: slice, losses: Array) -> None:
        """Keep what came of a shard of a step's batch: what the workers call."""
        self._losses[self._order[self._place(number, part)]] = losses

    def _place(self, number: int, part: slice) -> slice:
        """Where in the epoch a part of a step's batch is."""
        start = (number - 1) % self._epoch_steps * self._batch
        return slice(start + part.start, start + part.stop)

    def _augmented(self, rows: NDArray[np.intp], rng: np.random.Generator) -> tuple[Images, Labels | Array]:
        """The training images in these rows and their labels, as the recipe alters them."""
        return augment(self._images[rows], self._labels[rows], rng, self.recipe.augment, CLASSES)

    def _hardest_draws(
        self, rows: NDArray[np.intp], hard: NDArray[np.intp], rng: np.random.Generator, network: Network
    ) -> tuple[Images, Labels | Array]:
        """The same, but those at the places `hard` altered several times and taken where their loss is the largest."""
        draws = self.recipe.mining.draws
        images, labels = self._augmented(np.concatenate([rows, np.tile(rows[hard], draws - 1)]), rng)
        again = np.arange(len(rows), len(labels)).reshape(draws - 1, len(hard))
        candidates = np.concatenate([hard[np.newaxis], again])
        losses = self._probed(images, labels, candidates.ravel(), network).reshape(candidates.shape)
        chosen = np.arange(len(rows))
        chosen[hard] = candidates[losses.argmax(axis=0), np.arange(len(hard))]
        return picked(images, chosen), labels[chosen]

    def _probed(self, images: Images, labels: Labels | Array, places: NDArray[np.intp], network: Network) -> Array:
        """The loss of each of the images at these places, (n,), by the network as it predicts."""
        loss = SoftmaxCrossEntropy(self.recipe.loss.label_smoothing)
        found = []
        few, many = PROBED
        start = 0
        while start < len(places):
            left = len(places) - start
            at = np.resize(places[start : start + many], many if left > many // 2 else few)
            loss.forward(network.forward(network_input(picked(images, at))), labels[at])
            found.append(loss.losses)
            start += len(at)
        return np.concatenate(found)[: len(places)]

    def _whole_shard(self, shard: int, part: slice) -> tuple[Array | Pixels, Labels | Array]:
        """A shard of the full batch, which is the same at every step, so it is made once."""
        if shard not in self._pixels:
            chosen = self._order[part]
            images = self._images[chosen]
            first = next(layer for layer in self.network.layers if not isinstance(layer, Flatten))
            x = Pixels(images[..., np.newaxis]) if isinstance(first, Dense) else network_input(images)
            self._pixels[shard] = x, self._labels[chosen]
        return self._pixels[shard]

    def _vectors(self) -> dict[str, Array]:
        """The vectors that the next step or the predictions depend on, by their names in a checkpoint."""
        vectors = {"params": self.network.params, "statistics": self.network.statistics}
        if self._averaged is not None:
            vectors["average"] = self._averaged.params
        if self.recipe.mining.share < 1:
            vectors |= {"losses": self._losses, "losses_before": self._losses_before}
        return vectors | {f"state.{name}": vector for name, vector in self._parallel.state.items()}

    def _record(self, epoch: int, lr: float) -> Record:
        score, dev_loss = None, None
        if len(self._dev_labels):
            score, dev_loss = self.evaluate(self._dev_images, self._dev_labels)
        return Record(
            step=self.step,
            epoch=epoch,
            lr=lr,
            loss=self._loss / self._count,
            train_accuracy=self._correct / self._count,
            dev_loss=dev_loss,
            dev_accuracy=score.accuracy if score else None,
            seconds=round(self.seconds, 3),
        )

    def _check_finite(self, loss: float, lr: float) -> None:
        if not math.isfinite(loss):
            raise self._diverged(f"the loss is {loss} at step {self.step + 1}", lr)

    def _diverged(self, what: str, lr: float) -> DivergedError:
        name = self.recipe.optimizer.name
        return DivergedError(
            f"{what} of {self.steps} with a learning rate of {lr:g}: the training diverged; lower lr in [optimizer] "
            f"(try {self.recipe.optimizer.lr / 10:g} with {name}), or give [schedule] a longer warmup"
        )


def picked(images: Images, places: NDArray[np.intp]) -> Images:
    """Those of the images (N, side, side) at these places, innermost in memory as layers have them."""
    return images.transpose(1, 2, 0).take(places, axis=2).transpose(2, 0, 1)


def judged(p: Array, labels: Labels) -> tuple[Score, float]:
    """The score and the mean cross-entropy of probabilities (N, K), given the labels (N,)."""
    likelihood = np.maximum(p[np.arange(len(labels)), labels], np.finfo(p.dtype).tiny)
    correct = int(np.count_nonzero(p.argmax(axis=1) == labels))
    return Score(correct, len(labels)), float(-np.log(likelihood).mean())


def _by_rarest_pixel(images: Images) -> NDArray[np.intp]:
    """An order of images (N, 28, 28) in which neighbours share their dark pixels, as `Pixels` likes it.

    Sorted by how rarely each one's rarest lit pixel is lit, the rarest first. How rarely is told from every eighth
    image, in 256 grades, which is as good and far quicker.
    """
    lit = (images.reshape(len(images), -1) > 0).view(np.uint8)
    commonest_first = np.argsort(-lit[::8].sum(axis=0, dtype=np.intp), kind="stable")
    rarity = np.empty(len(commonest_first), np.uint8)
    rarity[commonest_first] = np.linspace(0, 255, len(commonest_first))
    return np.argsort(255 - (lit * rarity).max(axis=1), kind="stable")


def record_table(record: Record) -> dict[str, Any]:
    """A record as a line of log.jsonl has it."""
    return asdict(record)
