"""Time the kit beside its peers, in turn, on this machine: `make bench`.

Each contender is a process of its own (`contenders/`) that stays alive. In a race all of them are asked in turn,
several times over, so that a machine that slows down slows all of them; what counts is the median.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from contenders.networks import NETWORKS, network, operations
from contenders.process import HOLDS, KEEPS, Contender, ContenderError
from contenders.serving import Job
from digits.machine import cores, describe

ROOT = Path(__file__).resolve().parent.parent
KIT, TORCH, PLAIN, PEAK = "digits", "PyTorch", "plain float64 NumPy", "float32 matmul"
SKLEARN, SKLEARN_64 = "scikit-learn", "scikit-learn as it comes"
ONE_WORKER, TWO_WORKERS = "digits, 1 worker", "digits, 2 workers"

BATCHES = (64, 128, 256)
SHARD = 64  # images at most of a convolutional network's shard, as a recipe has them; a perceptron's gradient is large
TUTORIAL_REPETITIONS = 3  # at most: it is long
QUICK_STEPS = 50  # of the tutorial's, at most, where a look is wanted
PAUSE = 0.3  # seconds before a contender's turn: threads of the one before spin a little before they sleep
COMPILED_PAYS = 0.95  # of the eager speed that compiling must reach for it to be tried on the other batch sizes

app = typer.Typer(add_completion=False, rich_markup_mode=None)
console = Console(width=None if sys.stdout.isatty() else 140)


@dataclass(frozen=True)
class Task:
    """A network trained in batches of so many, or predicted with; the tutorial's training is full batches."""

    what: str
    network: str
    batch: int = 0

    def __str__(self) -> str:
        if self.what == "tutorial":
            return f"{self.network}, full batch"
        return f"{self.network}, {f'batch {self.batch}' if self.what == 'train' else 'prediction'}"

    @property
    def shards(self) -> int:
        """Into how many the kit cuts a batch."""
        return 2 if "MLP" in self.network else max(2, self.batch // SHARD)

    @property
    def operations(self) -> int:
        """Floating-point operations an image."""
        return operations(network(self.network), "predict" if self.what == "predict" else "train")


TUTORIAL = Task("tutorial", "784-10-10")
TASKS = [
    *(Task("train", name, batch) for name in ("Deotte's", "C16-C32-C64", "MLP 800-800") for batch in BATCHES),
    Task("train", "C16-C32-C64, batch norm", 128),
    *(Task("predict", name) for name in ("Deotte's", "C16-C32-C64", "MLP 800-800")),
    TUTORIAL,
]
SCALING = MEMORY = Task("train", "Deotte's", 128)
SKLEARN_TASK = Task("train", "MLP 800-800", 256)


@dataclass(frozen=True)
class Entrant:
    """A contender in a race, and what it does there."""

    contender: str
    job: Job


@dataclass(frozen=True)
class Row:
    """What one contender did in one race. `samples` are images a second (for PEAK, operations), one a repetition."""

    task: Task
    contender: str
    variant: str
    samples: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def gflops(self) -> float:
        """Thousands of millions of floating-point operations a second."""
        return self.median * (1 if self.contender == PEAK else self.task.operations) / 1e9


@dataclass
class Results:
    """All rows, and the working memory in bytes by contender; what went wrong is said in `notes`.

    `tried` has PyTorch's variants with their images a second, by task, of which the quickest was in the race.
    """

    rows: list[Row] = field(default_factory=list)
    tried: dict[str, dict[str, float]] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def row(self, task: Task, contender: str) -> Row | None:
        return next((row for row in self.rows if row.task == task and row.contender == contender), None)

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def ratio(self, task: Task, contender: str, *others: str) -> float | None:
        """How many times as quick a contender was as the quickest of the others that took part."""
        mine, theirs = self.row(task, contender), [row for row in (self.row(task, other) for other in others) if row]
        return mine.median / max(row.median for row in theirs) if mine and theirs else None

    def share(self, row: Row) -> float | None:
        """Of the machine's peak, as it was in the same race."""
        peak = self.row(row.task, PEAK)
        return row.gflops / peak.gflops if peak and row.contender != PEAK else None


class Bench:
    """The contenders, by name, and how they are timed."""

    def __init__(
        self, contenders: dict[str, Contender], seconds: float, repetitions: int, pause: float = PAUSE
    ) -> None:
        self.results = Results()
        self._contenders = contenders
        self._seconds = seconds
        self._repetitions = repetitions
        self._pause = pause
        self._compiled: dict[tuple[str, str], bool] = {}  # whether compiling pays, by what and network

    def race(self, task: Task, entrants: Sequence[Entrant]) -> None:
        """Ask all in turn, several times over; one that fails is out of the race."""
        samples: dict[Entrant, list[float]] = {entrant: [] for entrant in entrants}
        for _ in range(min(self._repetitions, TUTORIAL_REPETITIONS) if task.what == "tutorial" else self._repetitions):
            for entrant in list(samples):
                rate = self._ask(entrant)
                if rate is None:
                    del samples[entrant]
                else:
                    samples[entrant].append(rate)
        self.results.rows += [Row(task, entrant.contender, entrant.job.variant, s) for entrant, s in samples.items()]

    def quickest_variant(self, task: Task, job: Job, layouts: Sequence[str], compiling: bool) -> str | None:
        """Which of PyTorch's ways is the quickest at a task, or None if it can do none."""
        rates = {variant: self._best(TORCH, replace(job, variant=variant)) for variant in layouts}
        if not any(rates.values()):
            return None
        eager = max(rates, key=lambda variant: rates[variant])
        if compiling and self._compiled.get((task.what, task.network), True):
            compiled = f"{eager}, compiled"
            rates[compiled] = self._best(TORCH, replace(job, variant=compiled))
            self._compiled[task.what, task.network] = rates[compiled] > COMPILED_PAYS * rates[eager]
        self.results.tried[str(task)] = rates
        return max(rates, key=lambda variant: rates[variant])

    def working_memory(self, contender: Contender, job: Job) -> None:
        """Of a contender that has done nothing yet."""
        try:
            self.results.memory[contender.name] = contender.memory(job, 4 * self._seconds)
        except ContenderError as error:
            self.results.note(str(error))

    def _best(self, contender: str, job: Job) -> float:
        """The better of two rates, 0 if it fails."""
        return max(self._ask(Entrant(contender, job)) or 0.0 for _ in range(min(self._repetitions, 2)))

    def _ask(self, entrant: Entrant) -> float | None:
        time.sleep(self._pause)
        try:
            return self._contenders[entrant.contender].ask(entrant.job, self._seconds)
        except ContenderError as error:
            self.results.note(str(error))
            return None


def contenders(peers: Path, cache: Path, logs: Path) -> dict[str, Contender]:
    """All that can take part, none started: the peers run in the environment `peers`, the others in this one."""
    here, there = sys.executable, str(peers / "bin" / "python")
    paths = os.pathsep.join(str(ROOT / folder) for folder in ("scripts", "src"))
    environment = {"PYTHONPATH": paths, "TORCHINDUCTOR_CACHE_DIR": str(cache.resolve())}
    modules = {
        **dict.fromkeys((KIT, ONE_WORKER, TWO_WORKERS), (here, "kit")),
        **dict.fromkeys((PLAIN, PEAK), (here, "plain")),
        TORCH: (there, "pytorch"),
        **dict.fromkeys((SKLEARN, SKLEARN_64), (there, "scikit_learn")),
    }
    return {
        name: Contender(name, [python, "-m", f"contenders.{module}"], environment, logs / f"{name}.log")
        for name, (python, module) in modules.items()
    }


def job_of(task: Task, data: Path, steps: int) -> Job:
    """What is asked of the kit, and with a variant of its own of the others."""
    job = Job(task.what, task.network, task.batch, cores(), task.shards)
    return replace(job, data=str(data), steps=steps) if task.what == "tutorial" else job


def variants(task: Task) -> list[str]:
    """PyTorch's ways, but for compiling: how images lie in memory, and how many are predicted at a time."""
    layouts = ["eager"] if task.network.startswith("MLP") else ["channels first", "channels last"]
    if task.what == "train":
        return layouts
    return [f"{layout}, {size} at a time" for layout in layouts for size in ("256", "1,024")]


def entrants(bench: Bench, task: Task, job: Job, compiling: bool) -> Iterator[Entrant]:
    """Who takes part in the race."""
    yield Entrant(KIT, job)
    if task.what == "tutorial":
        yield Entrant(PLAIN, job)
        return
    variant = bench.quickest_variant(task, job, variants(task), compiling)
    if variant is not None:
        yield Entrant(TORCH, replace(job, variant=variant))
    if task == SKLEARN_TASK:
        yield Entrant(SKLEARN, replace(job, variant="float32"))
        yield Entrant(SKLEARN_64, replace(job, variant="float64"))
    if task == SCALING and cores() > 1:
        yield Entrant(ONE_WORKER, replace(job, cores=1))
        yield Entrant(TWO_WORKERS, replace(job, cores=2))
    yield Entrant(PEAK, Job("matmul"))


@dataclass(frozen=True)
class Figure:
    """A figure to reach: at least `target`, or where `most` at most; None is not measured."""

    name: str
    value: float | None
    target: float
    unit: str = "x"
    most: bool = False
    detail: str = ""

    @property
    def reached(self) -> bool | None:
        if self.value is None:
            return None
        return self.value <= self.target if self.most else self.value >= self.target


def figures(results: Results) -> list[Figure]:
    """What the kit is to reach; where there are several batch sizes, at the worst of them."""

    def least(name: str, values: dict[Task, float | None], target: float, unit: str = "x") -> Figure:
        known = {task: value for task, value in values.items() if value is not None}
        detail = ", ".join(f"{task.batch}: {value:.2f}" for task, value in known.items()) if len(known) > 1 else ""
        return Figure(name, min(known.values(), default=None), target, unit, detail=detail)

    found = []
    for what, word in (("train", "training"), ("predict", "prediction")):
        for name in ("Deotte's", "C16-C32-C64", "MLP 800-800"):
            tasks = [task for task in TASKS if (task.what, task.network) == (what, name)]
            ratios = {task: results.ratio(task, KIT, TORCH) for task in tasks}
            found.append(least(f"{word}, {name}: times PyTorch's best", ratios, 1.5))
    rows = {task: results.row(task, KIT) for task in TASKS if (task.what, task.network) == ("train", "Deotte's")}
    shares = {task: results.share(row) for task, row in rows.items() if row}
    memory = results.memory.get(KIT)
    return [
        *found,
        least("training, Deotte's: of the machine's float32 matmul", shares, 0.6, ""),
        Figure(f"{SCALING}: 2 workers, times 1", results.ratio(SCALING, TWO_WORKERS, ONE_WORKER), 1.85),
        Figure(f"{MEMORY}: working memory", memory and memory / 1e6, 600, "MB", most=True),
        *(
            Figure(f"{SKLEARN_TASK}: times {name}", results.ratio(SKLEARN_TASK, KIT, name), 3)
            for name in (SKLEARN, SKLEARN_64)
        ),
        Figure(f"{TUTORIAL}: times {PLAIN}", results.ratio(TUTORIAL, KIT, PLAIN), 5),
    ]


@app.command()
def main(
    data: Annotated[Path, typer.Option(help="The folder with train.csv, for the tutorial.")] = Path("data"),
    peers: Annotated[Path, typer.Option(help="The environment with PyTorch and scikit-learn.")] = Path("build/peers"),
    only: Annotated[str, typer.Option(help="Only the tasks whose name has this in it.")] = "",
    repetitions: Annotated[int, typer.Option(min=1, help="How often each contender is timed, in turn.")] = 15,
    seconds: Annotated[float, typer.Option(min=0, help="How long each time.")] = 0.4,
    steps: Annotated[int, typer.Option(min=1, help="Steps of the tutorial's network.")] = 500,
    quick: Annotated[bool, typer.Option("--quick", help="A look: once each, few steps, and nothing compiled.")] = False,
    out: Annotated[Path, typer.Option(help="Where to write the figures as JSON.")] = Path("build/bench.json"),
) -> None:
    """Time the kit beside its peers, in turn, on this machine."""
    tasks = [task for task in TASKS if only.lower() in str(task).lower()]
    if not tasks:
        raise typer.BadParameter(f"no task has {only!r} in its name; they are: {'; '.join(map(str, TASKS))}")
    if quick:
        repetitions, seconds, steps = 1, 0.1, min(steps, QUICK_STEPS)
    load = os.getloadavg()[0]
    with ExitStack() as stack:

        def started(names: Sequence[str] = ()) -> dict[str, Contender]:
            made = contenders(peers, out.parent / "inductor", out.parent / "bench-logs")
            return {name: stack.enter_context(made[name]) for name in names or made}

        taking_part = started()
        bench = Bench(taking_part, seconds, repetitions)
        for name in (TORCH, SKLEARN, SKLEARN_64):
            try:
                taking_part[name].start()
            except ContenderError as error:
                bench.results.note(f"{error}: `make bench PEERS=1` installs it")
        for task in tasks:
            job = job_of(task, data, steps)
            bench.race(task, list(entrants(bench, task, job, compiling=not quick)))
            console.print(f"{task}: {told(bench.results, task)}", style="dim")
        if MEMORY in tasks:
            fresh = started((KIT, TORCH))
            for name in fresh:
                row = bench.results.row(MEMORY, name)
                if row:
                    bench.working_memory(fresh[name], replace(job_of(MEMORY, data, steps), variant=row.variant))
    report(bench.results, {name: one.about for name, one in taking_part.items() if one.about}, load, out)


def told(results: Results, task: Task) -> str:
    """What came of a race, in a line."""
    rows = [row for row in results.rows if row.task == task and row.contender != PEAK]
    return ", ".join(f"{row.contender} {row.median:,.0f} images/s" for row in rows) or "nobody could"


def report(results: Results, about: dict[str, dict[str, Any]], load: float, out: Path) -> None:
    """Print the table, the figures and what is missing, and write the JSON."""
    machine = describe()
    del machine["blas"]  # this process's; the contenders have said theirs
    machine["load"] = load
    removed = [name for name in HOLDS if name in os.environ]
    if removed:
        results.note(f"{', '.join(removed)} held libraries back here: the contenders ran without")

    console.print(
        f"\n{machine['processor']}, {machine['cores']} cores, {machine['system']}, load {load:.1f} at the start"
    )
    for name, facts in about.items():
        versions = ", ".join(f"{package} {version}" for package, version in facts["versions"].items())
        console.print(f"{name}: Python {facts['python']}, {versions}; {', '.join(facts['blas'])}", highlight=False)
    console.print(table(results))
    peaks = [sample / 1e9 for row in results.rows if row.contender == PEAK for sample in row.samples]
    if peaks:
        console.print(f"float32 matmul on all cores: {statistics.median(peaks):.0f} GFLOP/s ({spread(peaks, '.0f')})")
    for name, size in results.memory.items():
        console.print(f"working memory of {name}, {MEMORY}: {size / 1e6:.0f} MB")
    found = figures(results)
    console.print(summary(found))
    for note in results.notes:
        console.print(note, style="yellow", highlight=False)

    content = {
        "machine": machine,
        "contenders": about,
        "removed": removed,
        "set": {name: os.environ.get(name, value) for name, value in KEEPS.items()},
        "networks": {name: facts_of(name) for name in NETWORKS},
        "rows": [json_of(results, row) for row in results.rows],
        "pytorch_variants": results.tried,
        "peak_gflops": statistics.median(peaks) if peaks else None,
        "working_memory_bytes": results.memory,
        "figures": [{**asdict(figure), "reached": figure.reached} for figure in found],
        "notes": results.notes,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    console.print(f"written to {out}")


def facts_of(name: str) -> dict[str, int]:
    """The numbers from which those of the rows follow."""
    one = network(name)
    return {
        "parameters": one.count,
        "multiply_adds": one.multiply_adds,
        "training_operations": operations(one, "train"),
        "prediction_operations": operations(one, "predict"),
    }


def json_of(results: Results, row: Row) -> dict[str, Any]:
    """A row of the JSON: the samples, and what follows from them."""
    return {
        **asdict(row.task),
        "contender": row.contender,
        "variant": row.variant,
        "counted": "operations" if row.contender == PEAK else "images",
        "samples_per_second": row.samples,
        "median_per_second": row.median,
        "gflops": row.gflops,
        "share_of_peak": results.share(row),
        "times_best_peer": times_best_peer(results, row),
    }


def times_best_peer(results: Results, row: Row) -> float | None:
    return results.ratio(row.task, KIT, TORCH, SKLEARN, PLAIN) if row.contender == KIT else None


def spread(samples: Sequence[float], form: str = ",.0f") -> str:
    return f"{min(samples):{form}}–{max(samples):{form}}"


def table(results: Results) -> Table:
    """A row a contender and race."""
    made = Table("task", "contender")
    for column in ("images/s", "slowest–quickest", "GFLOP/s", "of the peak", "times best peer"):
        made.add_column(column, justify="right")

    def shown(value: float | None, form: Callable[[float], str]) -> str:
        return "" if value is None else form(value)

    last = None
    for row in results.rows:
        if row.contender == PEAK:
            continue
        if row.task != last:
            made.add_section()
        made.add_row(
            str(row.task) if row.task != last else "",
            f"{row.contender}, {row.variant}" if row.variant else row.contender,
            f"{row.median:,.0f}",
            spread(row.samples),
            f"{row.gflops:.1f}",
            shown(results.share(row), lambda share: f"{share:.0%}"),
            shown(times_best_peer(results, row), lambda ratio: f"{ratio:.2f}"),
        )
        last = row.task
    return made


def summary(found: Sequence[Figure]) -> Table:
    """The figures to reach."""
    made = Table("figure", "measured", "wanted", "")
    words = {True: "reached", False: "not reached", None: "not measured"}
    for one in found:
        form = ".0f" if one.unit == "MB" else ".2f"
        value = "" if one.value is None else f"{one.value:{form}}" + (f" ({one.detail})" if one.detail else "")
        made.add_row(one.name, value, f"{'≤' if one.most else '≥'} {one.target:g} {one.unit}", words[one.reached])
    return made


if __name__ == "__main__":
    app()
