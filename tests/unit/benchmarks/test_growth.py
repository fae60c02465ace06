"""What is fitted to the growth that was measured, and what a plan for many more follows from."""

from dataclasses import asdict

import pytest

from benchmarks.billion import Plan, cluster
from benchmarks.clustered_vectors import clustered
from benchmarks.growth import Step, each_further, exponent
from visual_memory.schemas.classify_options import Effort

STEPS = [
    Step(
        size,
        1.0,
        1.0,
        1.0,
        10**8 + 2000 * size,
        3000 * size,
        dict.fromkeys(Effort, size**0.25),
        dict.fromkeys(Effort, 1.0),
    )
    for size in (10_000, 100_000, 1_000_000)
]
MEASURED = {"steps": [asdict(step) for step in STEPS], "exponents": {"balanced": 0.25}, "dimension": 384, "k": 100}


def test_the_exponent_of_a_power_is_found_and_the_process_itself_is_no_memory() -> None:
    assert exponent(STEPS, Effort.BALANCED) == pytest.approx(0.25)
    assert exponent(STEPS[:1], Effort.BALANCED) is None
    assert each_further(STEPS) == pytest.approx((2000, 3000))


def test_a_plan_has_machines_for_whatever_needs_most() -> None:
    found = cluster(Plan(), MEASURED)
    assert found.shards == 100
    assert found.ram == pytest.approx(2000 - 4 * 384)
    assert found.searched == pytest.approx(10_000_000**0.25)
    many = cluster(Plan(queries=10_000), MEASURED).machines
    assert {name: many[name] == found.machines[name] for name in many} == {
        "memory": True,
        "disk": True,
        "queries": False,
        "replicas": True,
    }
    assert many["queries"] == pytest.approx(100 * found.machines["queries"], rel=0.01)


def test_the_vectors_of_a_seed_are_the_same_every_time() -> None:
    (first, numbers), (again, same) = clustered(50, seed=3), clustered(50, seed=3)
    assert (first == again).all()
    assert numbers == same
    assert (first**2).sum(axis=1) == pytest.approx(1, abs=1e-5)
