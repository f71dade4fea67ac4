"""Trainings fanned out by joblib: to processes of this machine, or to the machines of a Dask or Ray cluster.

A worker is given plain values and answers with one. It reads the data and trains the run in their folders, which all
machines must see under the same paths; and it stops where a file appears beside them, for no signal comes that far.
"""

import math
import os
import signal
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any, Literal

from digits import data as datasets
from digits import runs
from digits.errors import DigitsError
from digits.experiment import Experiment, beginning
from digits.recipe import from_table
from digits.split import Split
from digits.sweep.grid import identity
from digits.train import DivergedError
from digits.version import source_digest

LOOK_SECONDS = 0.5  # between two looks at whether to stop
PATIENCE_SECONDS = 20.0  # with a process that was told to stop and still holds a run
CONNECT_SECONDS = 10.0  # to a cluster
IDLE_SECONDS = 10  # after which a process that waits for work ends
ONE_AT_A_TIME = threading.Lock()  # in a process: BLAS is held to one thread for all of its threads

Stop = Callable[[], bool]


@dataclass(frozen=True)
class Place:
    """Where runs are trained: a backend of joblib's, the address of its scheduler, and how many run at a time.

    `workers` None is as many as the backend has cores, or workers.
    """

    backend: Literal["loky", "dask", "ray"] = "loky"
    scheduler: str | None = None
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.backend == "dask" and not self.scheduler:
            raise DigitsError("--backend dask needs its scheduler's address, as in `--scheduler tcp://10.0.0.1:8786`")
        if self.backend == "loky" and self.scheduler:
            raise DigitsError("--scheduler goes with `--backend dask` or `--backend ray`")

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Within, in this thread, joblib works there. Raises DigitsError where it can't be reached or is lost."""
        import joblib

        if self.backend == "loky":
            options: dict[str, Any] = {"initializer": _deaf, "idle_worker_timeout": IDLE_SECONDS}
            with joblib.parallel_config("loky", n_jobs=self.workers or -1, inner_max_num_threads=1, **options):
                yield
        elif self.backend == "dask":
            try:
                import distributed
                from distributed.comm.core import CommClosedError
            except ImportError:
                raise _missing("dask", "dask distributed") from None
            try:
                client = distributed.Client(self.scheduler, timeout=CONNECT_SECONDS, set_as_default=False)
            except (OSError, ValueError) as error:
                raise DigitsError(
                    f"there is no Dask scheduler at {self.scheduler} ({error or 'no answer'}): start one with "
                    "`dask scheduler`, and workers with `dask worker ADDRESS --nthreads 1`"
                ) from error
            with client, joblib.parallel_config("dask", client=client):
                try:
                    yield
                except (distributed.KilledWorker, CommClosedError, TimeoutError) as error:
                    raise BrokenExecutor(f"Dask at {self.scheduler}: {error}") from error
        else:
            try:
                import ray
                from ray.util.joblib import register_ray
            except ImportError:
                raise _missing("ray", "ray") from None
            try:
                if not ray.is_initialized():
                    ray.init(address=self.scheduler, log_to_driver=False, logging_level="error")
            except ConnectionError as error:
                raise DigitsError(f"there is no Ray cluster at {self.scheduler}: start one with `ray start`") from error
            register_ray()
            with joblib.parallel_config("ray", n_jobs=self.workers or -1):
                yield


def _deaf() -> None:
    """A signal that a terminal sends to all its processes is for the caller to hear."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _missing(backend: str, packages: str) -> DigitsError:
    return DigitsError(
        f"--backend {backend} needs packages that are not here: `pip install {packages}`, on all machines"
    )


@dataclass(frozen=True)
class Task:
    """What a worker is given: plain values, with paths that all machines must know.

    It trains the run in `folder`, begun where it is not there yet, to the end of `epoch`; `sweep` goes into its record.
    It stops where the file `stop` appears, or where it is on the machine `host` and the process `caller` there is gone.
    """

    folder: str
    data: str
    sha256: dict[str, str]
    code: str
    recipe: dict[str, Any]
    split: dict[str, Any]
    seed: int
    sweep: dict[str, Any]
    epoch: int
    stop: str
    host: str
    caller: int


def advance(task: Task) -> str | None:
    """Train a run as far as a task says; in a worker. Returns what kept it from that, None if nothing did.

    A training that diverges did what it could: its run's record says so.
    """
    heard = _Ear(task)
    with ONE_AT_A_TIME:
        if heard():
            return None
        try:
            _advance(task, heard)
        except DivergedError:
            pass
        except DigitsError as error:
            return str(error)
    return None


def _advance(task: Task, heard: Stop) -> None:
    if source_digest() != task.code:
        raise DigitsError(
            f"the code of digits on {socket.gethostname()} is not that of the sweep: have the same on all machines"
        )
    data = datasets.load(Path(task.data))
    if data.sha256 != task.sha256:
        raise DigitsError(f"the data in {task.data} on {socket.gethostname()} is not that which the sweep began with")
    folder, recipe = Path(task.folder), from_table(task.recipe, f"the sweep {task.sweep['id']}")
    if (folder / "run.json").exists():
        run = runs.read(folder)
        if identity(run.record["recipe"]) != identity(task.recipe) or run.record["seed"] != task.seed:
            raise DigitsError(f"{folder} is of another recipe or seed than the sweep says: remove that folder")
    else:
        record = beginning(recipe, data, Split(**task.split), task.seed, 1, folder.parent)
        run = runs.create_in(folder, {**record, "sweep": task.sweep})
    patience = time.monotonic() + PATIENCE_SECONDS
    while run.status == "training" and time.monotonic() < patience:
        time.sleep(0.1)
    if runs.read(folder).record["status"] != "training":
        return
    with Experiment(run, data, None, 1) as experiment:
        training = experiment.training
        last = training.steps // recipe.train.epochs * task.epoch
        for _ in experiment.train(lambda: training.step >= last or heard()):
            pass
        if experiment.complete:
            experiment.finish()


class _Ear:
    """Whether a worker is to stop, looked up twice a second at most."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._here = task.host == socket.gethostname()
        self._looked = -math.inf
        self._heard = False

    def __call__(self) -> bool:
        if time.monotonic() - self._looked > LOOK_SECONDS:
            self._looked = time.monotonic()
            self._heard = self._heard or Path(self._task.stop).exists() or (self._here and not self._caller_lives())
        return self._heard

    def _caller_lives(self) -> bool:
        try:
            os.kill(self._task.caller, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        return True


def side_by_side(tasks: Sequence[Task], place: Place) -> list[str | None]:
    """What becomes of tasks that are worked on at the same time. Raises DigitsError where a worker is lost."""
    import joblib

    # What this thread starts inherits its mask, and so is deaf to Ctrl-C even before it ignores it. The tracker of
    # resources is started first, as that would clear the mask.
    resource_tracker.ensure_running()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        with place.joined(), warnings.catch_warnings():
            # Joblib takes what a worker keeps, buffers and libraries, for a leak where its first task was a short one:
            # it begins another one in its place, and no task is lost.
            warnings.filterwarnings("ignore", message="A worker stopped while some jobs", category=UserWarning)
            return list(joblib.Parallel(batch_size=1)(joblib.delayed(advance)(task) for task in tasks))
    except BrokenExecutor as error:
        reason = str(error).split("\n")[0].rstrip(".")
        raise DigitsError(
            f"a worker was lost ({reason}): see that there is memory enough, or use fewer --workers"
        ) from error
