"""Promise 7: no hostile request makes the service fail inside, and each gets the answer that is its own."""

from tests.faults.hostile_requests import TABLE, ask, complaints, spools, status_of
from tests.support.running_service import Stack, until
from tests.support.shape_pictures import picture


def test_every_hostile_request_is_answered_as_it_should_be(stack: Stack) -> None:
    before = complaints(stack)
    answered = [(each, status_of(ask(stack, each.written(stack.client.key or "")))) for each in TABLE]
    wrong = {f"{each.line[:40]!r}: {each.name}": status for each, status in answered if status not in each.statuses}
    assert wrong == {}
    assert complaints(stack) == before
    assert stack.http.post("/v1/classify", files=[("files", ("p", picture("bars")))]).status_code == 200
    until(lambda: not spools(stack), "temporary files to be closed")
