"""The errors that a caller can meet: each has a stable code, an HTTP status and a sentence on what would be right.

Raise the most specific class with the sentence; the API turns it into ``{"error": {"code": ..., "message": ...}}``.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

MOST_NAMED = 3


def sentence(place: Sequence[int | str], message: str) -> str:
    """A fault that pydantic found: where it is, then what is wrong.

    Args:
        place: the path to it, ``loc`` in pydantic's words; may be empty.
        message: ``msg`` in pydantic's words.
    """
    where = ".".join(map(str, place))
    return f"{where}: " * bool(where) + message.removeprefix("Value error, ")


def first_faults(found: Sequence[Mapping[str, Any]], whole: str = "body") -> str:
    """The first few faults that pydantic found, each with its place; what was sent is not repeated.

    Args:
        found: ``error.errors()``.
        whole: what that is called in which they were found.
    """
    faults = [sentence(fault["loc"] or (whole,), fault["msg"]) for fault in found]
    more = f" (and {len(faults) - MOST_NAMED} more)" if len(faults) > MOST_NAMED else ""
    return "; ".join(faults[:MOST_NAMED]) + more


class VisualMemoryError(Exception):
    """The base of every error that is meant for a caller.

    Attributes:
        code: stable machine-readable name, snake case.
        status: the HTTP status it is answered with, 400 to 599.
        message: a sentence for a person: what was wrong and what would be right.
    """

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidRequest(VisualMemoryError):
    """The request has a missing, unknown or ill-typed part."""

    code = "invalid_request"
    status = 422


class NotAnEvent(InvalidRequest):
    """What lies in a stream is no event that is understood."""

    code = "not_an_event"


class RefusedEvent(InvalidRequest):
    """An event is as events are, and what it says of its image, or asks for, breaks a rule.

    Attributes:
        event_id: as its producer named it; empty where that is not known.
    """

    code = "refused_event"

    def __init__(self, message: str, event_id: str = "") -> None:
        super().__init__(message)
        self.event_id = event_id


class InvalidFilter(InvalidRequest):
    """A filter names an unknown field, has a value of the wrong type, or is empty where it must not be."""

    code = "invalid_filter"


class InvalidVector(InvalidRequest):
    """A vector has the wrong length, is not finite, or is zero."""

    code = "invalid_vector"


class FetchFailed(InvalidRequest):
    """A host did not give the picture that a URL names."""

    code = "fetch_failed"


class FetchUnanswered(FetchFailed):
    """A host or store did not answer, or said that it cannot at the moment: another try may be answered."""


class InvalidPicture(InvalidRequest):
    """The bytes are not a picture that can be decoded."""

    code = "invalid_picture"


class DecoderFailed(InvalidPicture):
    """Decoding the picture took too much time or memory, or ended the process that did it."""

    code = "decoder_failed"


class MalformedRequest(VisualMemoryError):
    """What came is not a request of HTTP."""

    code = "malformed_request"
    status = 400


class UnsupportedFormat(VisualMemoryError):
    """The picture is of a format outside JPEG, PNG, WebP, AVIF, HEIC, BMP, GIF and TIFF."""

    code = "unsupported_format"
    status = 415


class TooLarge(VisualMemoryError):
    """A picture or a request is over the limit of bytes or pixels."""

    code = "too_large"
    status = 413


class HeadTooLarge(TooLarge):
    """The request's line and headers are over the limit."""

    code = "head_too_large"
    status = 431


class TooSlow(VisualMemoryError):
    """The body of a request did not arrive in time."""

    code = "too_slow"
    status = 408


class NotAuthorized(VisualMemoryError):
    """The request carries no key, or one that opens nothing."""

    code = "not_authorized"
    status = 401


class Forbidden(VisualMemoryError):
    """The key lacks the scope that the request needs."""

    code = "forbidden"
    status = 403


class Blocked(VisualMemoryError):
    """A removal with ``block`` refuses this content or subject from now on."""

    code = "blocked"
    status = 403


class NotFound(VisualMemoryError):
    """There is no such image, removal or key."""

    code = "not_found"
    status = 404


class Conflict(VisualMemoryError):
    """Another request changed the same thing at the same moment; sending it again is right."""

    code = "conflict"
    status = 409


class BeingRemoved(Conflict):
    """A removal has marked the image, or took it at this moment; sending it again is right once it is gone.

    Attributes:
        retry_after: whole seconds until then, as a rule.
    """

    code = "being_removed"
    retry_after = 1


class PreconditionFailed(VisualMemoryError):
    """The image is not as the sender saw it: its ETag is none of those that ``If-Match`` names."""

    code = "precondition_failed"
    status = 412


class IdempotencyKeyReused(InvalidRequest):
    """The Idempotency-Key is that of another request, within a day."""

    code = "idempotency_key_reused"


class RequestRunning(Conflict):
    """The same request, with the same Idempotency-Key, is being worked on; sending it again is right.

    Attributes:
        retry_after: whole seconds until then.
    """

    code = "request_running"
    retry_after = 1

    def __init__(self, message: str = "the same request is being worked on: send it again in a second") -> None:
        super().__init__(message)


class NotJudged(VisualMemoryError):
    """The question needs a judgement of the memory, and there is none that counts."""

    code = "not_judged"
    status = 409


class RateLimited(VisualMemoryError):
    """The key has used up its requests or bytes of this minute.

    Attributes:
        retry_after: whole seconds until it may send again.
    """

    code = "rate_limited"
    status = 429

    def __init__(self, message: str, retry_after: int = 60) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class EncoderMismatch(VisualMemoryError):
    """Vectors of another encoder are needed than there are: the settings, a question or its vectors name that one."""

    code = "encoder_mismatch"
    status = 409


class Unavailable(VisualMemoryError):
    """A part that the request needs does not answer; sending it again later is right."""

    code = "unavailable"
    status = 503


class OutOfSpace(Unavailable):
    """A disk is full; sending it again is right once there is room."""

    code = "out_of_space"
    status = 507
