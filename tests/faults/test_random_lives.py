"""All promises at once: long random lives of a service, held against a model."""

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.faults.conftest import Report
from tests.faults.random_lives import Machine

LIVES, STEPS = 100, 40


def test_whatever_happens_it_holds_and_answers_what_the_model_says(report: Report) -> None:
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=LIVES, stateful_step_count=STEPS, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
    report(2, "random lives: accept, relabel, remove, crash, compact, back up, restore", LIVES, 0, 0)
