"""How a contender is asked: it says who it is in a line of JSON, then times what it is told to, a line for a line.

A contender stays alive from one question to the next, so that nothing is timed that happens once: imports, compiling,
the first touch of memory.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Any

WARM_UP = 3  # steps before a job is timed first; one before each further time


@dataclass(frozen=True)
class Job:
    """What to time: "train", "predict", or what else a contender knows, on which network, in batches of how many.

    `cores` is how many workers or threads take part, `shards` into how many a batch is cut by who cuts it, `variant`
    which of the contender's ways to do the job it is to take. The tutorial's training has a number of `steps` and the
    folder of the competition's tables, `data`.
    """

    what: str
    network: str = ""
    batch: int = 0
    cores: int = 1
    shards: int = 2
    variant: str = ""
    steps: int = 0
    data: str = ""


Step = Callable[[], int]  # does a step of the job and returns how many images it was, or whatever is counted
Prepare = Callable[[Job], AbstractContextManager[Step]]


def serve(prepare: Prepare, *packages: str, **about: Any) -> None:
    """Answer until stdin ends: `prepare` makes a job ready, which is kept until one comes that differs in more than its
    variant. The versions of these packages, and what else is known `about` the contender, go into the first line.
    """
    # Whatever a library prints is to be no answer.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1, encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    versions = {name: metadata.version(name) for name in packages}
    print(json.dumps({"python": sys.version.split()[0], "versions": versions, "blas": blas(), **about}), file=answers)
    ready: dict[Job, Step] = {}
    with ExitStack() as jobs:
        for line in sys.stdin:
            question = json.loads(line)
            job = Job(**question["job"])
            try:
                if any(replace(other, variant="") != replace(job, variant="") for other in ready):
                    ready.clear()
                    jobs.close()
                warm_up = 1 if job in ready else WARM_UP
                if job not in ready:
                    ready[job] = jobs.enter_context(prepare(job))
                answer = timed(ready[job], question["seconds"], 0 if job.steps else warm_up)
                print(json.dumps(answer), file=answers)
            except Exception as error:  # noqa: BLE001  whatever it is, the bench goes on without this job
                reason = str(error).strip() or "no reason given"
                print(json.dumps({"error": f"{type(error).__name__}: {reason.splitlines()[0]}"}), file=answers)


def timed(step: Step, seconds: float, warm_up: int) -> dict[str, float]:
    """Steps for so many seconds, one at least: {"steps", "count", "seconds"}."""
    for _ in range(warm_up):
        step()
    steps = count = 0
    start = now = time.perf_counter()
    while not steps or now - start < seconds:
        count += step()
        steps += 1
        now = time.perf_counter()
    return {"steps": steps, "count": count, "seconds": now - start}


def blas() -> list[str]:
    """The linear algebra and threading libraries that are loaded, and which processor's code they run."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return []
    fields = ("internal_api", "version", "architecture")
    return [" ".join(str(lib[field]) for field in fields if lib.get(field)) for lib in threadpool_info()]
