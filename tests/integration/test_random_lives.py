"""All promises at once, in short: tests/faults has longer lives, and more of them."""

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.faults.random_lives import Machine


def test_whatever_happens_it_holds_and_answers_what_the_model_says() -> None:
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=5, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
