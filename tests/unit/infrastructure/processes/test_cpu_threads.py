"""Who computes with how many threads is said in one place, and an environment that says otherwise is heeded."""

import os

import pytest

from visual_memory.services.infrastructure.processes import cpu_threads


def test_a_computation_has_one_thread_and_matrix_products_every_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {})
    cpu_threads.limit_library_threads()
    assert os.environ == {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": str(cpu_threads.count())}


def test_an_environment_that_names_a_number_is_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"OMP_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "5"})
    cpu_threads.limit_library_threads()
    assert os.environ == {"OMP_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "5"}


def test_there_is_a_core() -> None:
    assert 1 <= cpu_threads.count() <= (os.cpu_count() or 1)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no such thing")
def test_cores_that_the_process_may_not_use_do_not_count() -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert cpu_threads.count() == 1
    finally:
        os.sched_setaffinity(0, before)
