"""Promise 7: what the OpenAPI document calls right and what it calls wrong, at length."""

from tests.faults.conftest import Report
from tests.faults.openapi_attack import attack
from tests.support.running_service import Stack

EXAMPLES = 1000


def test_every_operation_keeps_to_its_document(stack: Stack, report: Report) -> None:
    answered = attack(stack, EXAMPLES, same=False)
    assert answered.total() > 20 * EXAMPLES
    report(7, "requests made of the OpenAPI document, right and wrong", answered.total(), 0, 0)
