"""A contender as the bench sees it: a process that is asked and answers, and the memory that it takes."""

import json
import os
import select
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

from contenders.serving import Job

START_SECONDS = 60.0
JOB_SECONDS = 180.0  # with compiling
LOOK_SECONDS = 0.02  # between two looks at the memory

# Variables that hold a library to fewer cores, or OpenBLAS to another processor's code: a contender is started without.
HOLDS = (
    *("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"),
    *(f"{library}_NUM_THREADS" for library in ("OMP", "OPENBLAS", "MKL", "GOTO", "VECLIB")),
)

# Variables by which a contender keeps the memory that it frees, in large pages: glibc gives back the large arrays that
# PyTorch makes at each step and takes them anew, which on a virtual machine can cost more than the step.
KEEPS = {
    **{f"MALLOC_{threshold}_THRESHOLD_": str(1 << 32) for threshold in ("MMAP", "TRIM")},
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}


class ContenderError(Exception):
    """A contender is not there, did not do what it was asked, or ended; the message says which and why."""


class Contender:
    """A process that is started when it is first asked, and stays; a context manager that ends it.

    `command` is what to run, `environment` what to set for it, and what it writes to stderr goes to the file `log`.
    """

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.about: dict[str, Any] = {}  # its versions, and what else it says of itself
        self._command = command
        kept = {key: value for key, value in os.environ.items() if key not in HOLDS}
        self._environment = KEEPS | kept | dict(environment)
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._failure = ""

    def start(self) -> None:
        """Raises ContenderError if it does not start, now or once before."""
        if self._failure:
            raise ContenderError(self._failure)
        if self._process:
            return
        self._log.parent.mkdir(parents=True, exist_ok=True)
        pipe = subprocess.PIPE
        try:
            with self._log.open("wb") as log:
                self._process = subprocess.Popen(
                    self._command, stdin=pipe, stdout=pipe, stderr=log, env=self._environment, bufsize=0
                )
        except OSError as error:
            self._failure = f"{self.name} is missing ({self._command[0]}: {error.strerror})"
            raise ContenderError(self._failure) from error
        self.about = self._answer(START_SECONDS)

    def ask(self, job: Job, seconds: float) -> float:
        """How many a second it does of the job, images if nothing else, timed over so many seconds and at least a step.

        Raises ContenderError.
        """
        self._question(job, seconds)
        return self._rate(self._answer(JOB_SECONDS))

    def memory(self, job: Job, seconds: float) -> int:
        """By how many bytes its memory and its workers' grows at the most while it does the job.

        Raises ContenderError.
        """
        self.start()
        assert self._process
        before = peak = resident(self._process.pid)
        self._question(job, seconds)
        while not self._answered(LOOK_SECONDS):
            peak = max(peak, resident(self._process.pid))
        self._rate(self._answer(JOB_SECONDS))
        return max(peak, resident(self._process.pid)) - before

    def close(self) -> None:
        """End the process; another question would start it anew."""
        if self._process:
            assert self._process.stdin
            assert self._process.stdout
            self._process.stdin.close()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process.stdout.close()
        self._process = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _question(self, job: Job, seconds: float) -> None:
        self.start()
        assert self._process
        assert self._process.stdin
        line = json.dumps({"job": asdict(job), "seconds": seconds})
        try:
            self._process.stdin.write(line.encode() + b"\n")
        except BrokenPipeError:
            self._fail("has ended")

    def _answer(self, seconds: float) -> dict[str, Any]:
        assert self._process
        assert self._process.stdout
        deadline = time.monotonic() + seconds
        line = b""
        while not line.endswith(b"\n"):
            if not self._answered(deadline - time.monotonic()):
                self._fail(f"did not answer in {seconds:.0f} s")
            part = os.read(self._process.stdout.fileno(), 1 << 16)
            if not part:
                self._fail("has ended")
            line += part
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _answered(self, seconds: float) -> bool:
        assert self._process
        assert self._process.stdout
        return bool(select.select([self._process.stdout], [], [], max(seconds, 0.0))[0])

    def _rate(self, answer: dict[str, Any]) -> float:
        if "error" in answer:
            raise ContenderError(f"{self.name} can't do it ({answer['error']})")
        return float(answer["count"] / answer["seconds"])

    def _fail(self, what: str) -> NoReturn:
        """End it: raises ContenderError, and so does every further question if it has not even started."""
        assert self._process
        self._process.kill()
        self.close()
        last = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        missing = last and last[0].startswith("ModuleNotFoundError")
        failure = f"{self.name} {'is missing' if missing else what} ({''.join(last) or 'it said nothing'})"
        if not self.about:
            self._failure = failure
        raise ContenderError(failure)


def resident(pid: int) -> int:
    """Bytes of memory that a process and its descendants hold, what they share counted once.

    Raises ContenderError on a system that does not tell.
    """
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # "pid (name) state parent ...", and there may be anything in a name
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended
            continue
    family = {pid}
    while more := {child for child, parent in parents.items() if parent in family} - family:
        family |= more
    total = 0
    for member in family:
        try:
            text = Path(f"/proc/{member}/smaps_rollup").read_text()
        except OSError as error:
            if member == pid:
                raise ContenderError("this system does not tell how much memory processes share") from error
            continue
        total += sum(1024 * int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return total
