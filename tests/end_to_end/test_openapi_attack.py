"""Promise 7: every operation keeps to the OpenAPI document and none fails inside; tests/faults asks more often."""

import pytest

from tests.faults.openapi_attack import NOTHING_TO_SEND, attack
from tests.support.running_service import Stack


@pytest.mark.timeout(600)
def test_every_operation_keeps_to_its_document(stack: Stack) -> None:
    answered = attack(stack, 4, same=True)
    every = {label for label, _ in answered}
    assert {label for label, status in answered if status < 300} == every, "one that never answers well is not attacked"
    assert {label for label, status in answered if status >= 400} == every - NOTHING_TO_SEND
