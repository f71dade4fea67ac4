"""A kernel at Kaggle: pushed from a plan, and what it has left taken into the ledger as a run like any other."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from digits import runs
from digits.errors import DigitsError
from digits.files import make_folder, mendable
from digits.kaggle.answers import Pushed, Session
from digits.kaggle.client import KaggleClient
from digits.kernel.notebook import METADATA, Plan, write
from digits.runs import Run

KEPT_BACK = ("checkpoint.npz",)  # of a run's files, what nobody needs of a finished one

Say = Callable[[str], object]


def push(
    client: KaggleClient, plan: Plan, folder: Path, submissions: Path, public: bool = False, before: int | None = None
) -> Pushed:
    """Build a plan's kernel in a folder, in the name of who is signed in, and push it exactly once.

    `before` is the version before an earlier attempt whose answer is not known. Raises DigitsError where Kaggle refuses
    it, or there is no knowing whether it arrived.
    """
    path = write(plan, folder, submissions, client.username, public)
    metadata = json.loads((folder / METADATA).read_text(encoding="utf-8"))
    return client.push(metadata, path.read_text(encoding="utf-8"), before=before)


def reference(client: KaggleClient, kernel: str) -> str:
    """A kernel's "owner/slug", where the owner may be left out if it is who is signed in."""
    return kernel if "/" in kernel else f"{client.username}/{kernel}"


def take(client: KaggleClient, ref: str, submissions: Path, say: Say) -> Run:
    """The run that a finished kernel has left, in the ledger, its submission the newest.

    It is there whole or not at all, and one that is there already is not fetched again. Its record says which kernel,
    in which version, it is from. Raises DigitsError where the kernel has left no run, or a part of it is missing.
    """
    files = client.outputs(ref).files
    root = run_folder(files, ref)
    target = submissions / root.name
    if target.exists():
        say(f"{target} is there already")
        return runs.read(target)
    version = client.kernel_version(ref)
    with staging(submissions) as stage:
        fetch(client, files, root, stage, say)
        run = checked(stage, ref)
        run.update(kernel={"ref": ref, "version": version})
        with mendable(target):
            stage.rename(target)
    run = runs.read(target)
    runs.publish(run, submissions)
    return run


def run_folder(files: Iterable[str], ref: str) -> PurePosixPath:
    """The folder, among these files of a kernel, of the newest run. Raises DigitsError where there is none."""
    names = [PurePosixPath(name) for name in files]
    found = [name.parent for name in names if name.name == "run.json" and name.parent.parent.name == "submissions"]
    if not found:
        raise DigitsError(
            f"the kernel {ref} has left no run, no run.json among its {len(names)} files: "
            f"see what it says with `digits kernel logs {ref}`"
        )
    return max(found, key=lambda folder: folder.name)


def fetch(client: KaggleClient, files: dict[str, str], root: PurePosixPath, folder: Path, say: Say) -> None:
    """Fetch those of a kernel's files that are below `root` into a folder."""
    for name, url in sorted(files.items()):
        path = PurePosixPath(name)
        if path.is_relative_to(root) and ".." not in path.parts and path.name not in KEPT_BACK:
            target = folder / path.relative_to(root)
            make_folder(target.parent)
            client.fetch(url, target)
    say(f"fetched {root.name}")


def checked(folder: Path, ref: str) -> Run:
    """The finished run in a folder, whose submission and those of its members are what they were when it was written.

    Raises DigitsError where they are not.
    """
    run = runs.read(folder)
    if run.record["status"] != "finished":
        raise DigitsError(f"the run of the kernel {ref} is not finished: see why with `digits kernel logs {ref}`")
    for one in (run, *(part for part in runs.members(run) if part.record["status"] == "finished")):
        for name in ("submission.csv", "test.npz"):
            if not one.path(name).exists():
                raise DigitsError(f"the kernel {ref} has left a run with no {name}: push it again")
        digest = hashlib.sha256(one.path("submission.csv").read_bytes()).hexdigest()
        if digest != one.record["submission"]["sha256"]:
            raise DigitsError(f"submission.csv of the kernel {ref} is not what the run wrote: run this again")
    return run


@contextmanager
def staging(submissions: Path) -> Iterator[Path]:
    """A folder beside the runs to put a new one together in, gone afterwards unless it was put in place."""
    make_folder(submissions)
    with mendable(submissions):
        stage = Path(tempfile.mkdtemp(prefix=".incoming-", dir=submissions))
    try:
        stage.chmod(0o755)
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def tail(log: str, lines: int) -> list[str]:
    """The last lines of a log, 0 for all of them."""
    found = log.splitlines()
    return found[-lines:] if lines else found


def bad_end(ref: str, session: Session) -> str:
    """What has become of a kernel that is not complete, in words."""
    why = f" ({session.failure})" if session.failure else ""
    return f"the kernel {ref} {'has failed' if session.status == 'ERROR' else f'is {session}'}{why}"


def failure(ref: str, session: Session) -> DigitsError:
    """The error for a kernel that has come to a bad end."""
    remedy = "mend what its log says, then push it again" if session.status == "ERROR" else "push it again"
    return DigitsError(f"{bad_end(ref, session)}: {remedy}")
