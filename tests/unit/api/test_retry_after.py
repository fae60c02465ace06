"""What an answer to an error says beside its code: when to try again."""

import pytest

from visual_memory.schemas.errors import BeingRemoved, Conflict, OutOfSpace, RateLimited, Unavailable, VisualMemoryError
from visual_memory.services.api.error_responses import error_response


@pytest.mark.parametrize(
    ("error", "status", "after"),
    [
        (BeingRemoved("it is being removed"), 409, "1"),
        (Conflict("others change it"), 409, None),
        (RateLimited("too many", 7), 429, "7"),
        (Unavailable("no answer"), 503, "5"),
        (OutOfSpace("full"), 507, None),
    ],
)
def test_it_says_when_to_try_again(error: VisualMemoryError, status: int, after: str | None) -> None:
    answered = error_response(error)
    assert (answered.status_code, answered.headers.get("retry-after")) == (status, after)
