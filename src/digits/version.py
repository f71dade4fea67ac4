"""Which code made a run: the git commit, where there is one, and a digest of the source that decides the result."""

import hashlib
import subprocess
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parent
# What a run's weights and predictions depend on; the rest only reads, writes and shows.
DECISIVE = (
    *("nn/*.py", "augment.py", "competition.py", "deform.py", "mining.py", "predict.py", "recipe.py", "split.py"),
    *("table.py", "train.py"),
)


def code_version() -> dict[str, Any]:
    """`commit` and `dirty` of the checkout that the package runs from (None outside one), `sha256` of the source."""
    commit = _git("rev-parse", "HEAD") if _git("ls-files", "--error-unmatch", Path(__file__).name) else None
    dirty = bool(_git("status", "--porcelain", "--", ".")) if commit else None
    return {"commit": commit, "dirty": dirty, "sha256": source_digest()}


def source_digest() -> str:
    """The SHA-256 of the modules on which a result depends."""
    digest = hashlib.sha256()
    for path in sorted(path for pattern in DECISIVE for path in PACKAGE.glob(pattern)):
        digest.update(f"{path.relative_to(PACKAGE).as_posix()}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def tracked(folder: Path) -> set[Path] | None:
    """The files below a folder that git keeps, None where the folder is not part of a checkout."""
    listed = _git("ls-files", "-z", cwd=folder) if folder.is_dir() else None
    if listed is None:
        return None
    return {(folder / name).resolve() for name in listed.split("\0") if name}


def _git(*arguments: str, cwd: Path | None = None) -> str | None:
    """What git prints, or None where it isn't there or refuses."""
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=cwd or PACKAGE,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
