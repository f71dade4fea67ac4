"""The machine that a run is made on: its cores, its versions, and BLAS held to one thread."""

import os
import platform
import sys
from contextlib import AbstractContextManager
from importlib import metadata
from typing import Any

from digits import __version__


def cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def single_threaded_blas() -> AbstractContextManager[Any]:
    """While this context lasts, a matrix product runs on the thread that asks for it: a worker is one core."""
    import numpy  # noqa: F401  so that its BLAS is loaded and can be held
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[Any] = threadpool_limits(1, "blas")
    return limits


def describe() -> dict[str, Any]:
    """The processor, cores, system and versions, for run.json."""
    from threadpoolctl import threadpool_info

    blas = [f"{lib['internal_api']} {lib['version']} {lib.get('architecture', '')}" for lib in threadpool_info()]
    return {
        "processor": _processor(),
        "cores": cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "blas": blas[0].strip() if blas else "unknown",
        "versions": {
            "digits": __version__,  # its metadata are missing where it is not installed, as in a kernel
            **{name: metadata.version(name) for name in ("numpy", "pandas", "matplotlib")},
        },
    }


def _processor() -> str:
    if sys.platform == "linux":
        try:
            with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123
                for line in file:
                    if line.startswith("model name"):
                        return line.split(":", 1)[1].strip()
        except OSError:
            pass
    return platform.processor() or platform.machine()
