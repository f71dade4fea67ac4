"""What a run says of its machine."""

import json
import os

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from digits import machine


def blas_threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_the_cores_are_those_that_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.cores() >= 1
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 7}, raising=False)
    assert machine.cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert machine.cores() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert machine.cores() == 1


def test_blas_is_held_to_one_thread_and_let_go_again() -> None:
    before = blas_threads()
    with machine.single_threaded_blas():
        assert blas_threads() == {1}
    assert blas_threads() == before


def test_the_description_is_plain_and_says_what_numbers_depend_on() -> None:
    described = machine.describe()
    assert json.loads(json.dumps(described)) == described
    assert described["versions"]["numpy"] == np.__version__
    assert set(described["versions"]) == {"digits", "numpy", "pandas", "matplotlib"}
    assert described["cores"] == machine.cores()
    for key in ("processor", "system", "python", "blas"):
        assert described[key]
