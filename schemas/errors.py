"""The errors for callers: each has a stable code, an HTTP status, and a message on how to fix it.

Raise the most specific class; the API turns it into ``{"error": {"code": ..., "message": ...}}``.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

MAX_FAULTS = 3


def sentence(path: Sequence[int | str], message: str) -> str:
    """A validation error of pydantic as text: where, then what is wrong.

    Args:
        path: pydantic's ``loc``; may be empty.
        message: pydantic's ``msg``.
    """
    where = ".".join(map(str, path))
    return f"{where}: " * bool(where) + message.removeprefix("Value error, ")


def first_faults(errors: Sequence[Mapping[str, Any]], whole: str = "body") -> str:
    """The first few validation errors of pydantic as text, without the values that were sent.

    Args:
        errors: ``error.errors()``.
        whole: the name of the validated object, for errors without a path.
    """
    faults = [sentence(error["loc"] or (whole,), error["msg"]) for error in errors]
    more = f" (and {len(faults) - MAX_FAULTS} more)" if len(faults) > MAX_FAULTS else ""
    return "; ".join(faults[:MAX_FAULTS]) + more


class VisualMemoryError(Exception):
    """The base class of errors for callers.

    Attributes:
        code: stable machine-readable name, in snake case.
        status: the HTTP status of the response, 400 to 599.
        message: a sentence for people: what is wrong and how to fix it.
    """

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidRequest(VisualMemoryError):
    """The request has a missing, unknown or invalid part."""

    code = "invalid_request"
    status = 422


class NotAnEvent(InvalidRequest):
    """The entry of a stream is not an event of a known form."""

    code = "not_an_event"


class RefusedEvent(InvalidRequest):
    """An event has the right form, and its content breaks a rule.

    Attributes:
        event_id: the producer's id of the event; empty where it is not known.
    """

    code = "refused_event"

    def __init__(self, message: str, event_id: str = "") -> None:
        super().__init__(message)
        self.event_id = event_id


class InvalidFilter(InvalidRequest):
    """A filter names an unknown field, has a value of the wrong type, or is empty where it must not be."""

    code = "invalid_filter"


class InvalidCursor(InvalidRequest):
    """A cursor that no page of this list ended with; begin again without one."""

    code = "invalid_cursor"

    def __init__(self, message: str = "cursor: no page of this list ended with it; begin without one") -> None:
        super().__init__(message)


class InvalidVector(InvalidRequest):
    """A vector has the wrong length, is not finite, or is zero."""

    code = "invalid_vector"


class FetchFailed(InvalidRequest):
    """A host did not return the picture of a URL."""

    code = "fetch_failed"


class FetchUnanswered(FetchFailed):
    """A host or store did not answer, or answered that it is unavailable; a retry may succeed."""


class InvalidPicture(InvalidRequest):
    """The bytes are not a picture that can be decoded."""

    code = "invalid_picture"


class DecoderFailed(InvalidPicture):
    """Decoding the picture took too much time or memory, or crashed the decoder's process."""

    code = "decoder_failed"


class MalformedRequest(VisualMemoryError):
    """The bytes are not an HTTP request."""

    code = "malformed_request"
    status = 400


class UnsupportedFormat(VisualMemoryError):
    """The format of the picture is none of JPEG, PNG, WebP, AVIF, HEIC, BMP, GIF and TIFF."""

    code = "unsupported_format"
    status = 415


class TooLarge(VisualMemoryError):
    """A picture or a request exceeds the limit of bytes or pixels."""

    code = "too_large"
    status = 413


class HeadTooLarge(TooLarge):
    """The request line and headers exceed the limit."""

    code = "head_too_large"
    status = 431


class TooSlow(VisualMemoryError):
    """The body of a request did not arrive in time."""

    code = "too_slow"
    status = 408


class NotAuthorized(VisualMemoryError):
    """The request has no key, or one that is unknown or revoked."""

    code = "not_authorized"
    status = 401


class Forbidden(VisualMemoryError):
    """The key lacks the scope that the request needs."""

    code = "forbidden"
    status = 403


class Blocked(VisualMemoryError):
    """A removal with ``block`` has put this content or subject on the blocklist."""

    code = "blocked"
    status = 403


class NotFound(VisualMemoryError):
    """There is no such image, removal or key."""

    code = "not_found"
    status = 404


class Conflict(VisualMemoryError):
    """Another request changed the same thing at the same time; send this one again."""

    code = "conflict"
    status = 409


class BeingRemoved(Conflict):
    """A running removal covers the image; send the request again when the image is deleted.

    Attributes:
        retry_after: whole seconds until then, usually.
    """

    code = "being_removed"
    retry_after = 1


class PreconditionFailed(VisualMemoryError):
    """The image has changed since the sender read it: ``If-Match`` does not contain its ETag."""

    code = "precondition_failed"
    status = 412


class IdempotencyKeyReused(InvalidRequest):
    """The Idempotency-Key was used by another request within a day."""

    code = "idempotency_key_reused"


class RequestRunning(Conflict):
    """A request with the same Idempotency-Key is being processed; send this one again.

    Attributes:
        retry_after: whole seconds until then.
    """

    code = "request_running"
    retry_after = 1

    def __init__(self, message: str = "the same request is being processed: send it again in a second") -> None:
        super().__init__(message)


class NotJudged(VisualMemoryError):
    """The request needs a judgement of the memory, and there is no current one."""

    code = "not_judged"
    status = 409


class RateLimited(VisualMemoryError):
    """The key has used its requests or bytes of this minute.

    Attributes:
        retry_after: whole seconds until it may send again.
    """

    code = "rate_limited"
    status = 429

    def __init__(self, message: str, retry_after: int = 60) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class TooManyListeners(RateLimited):
    """The key, its tenant or this process has too many open connections that listen to events."""

    code = "too_many_listeners"

    def __init__(self, message: str, retry_after: int = 5) -> None:
        super().__init__(message, retry_after)


class EncoderMismatch(VisualMemoryError):
    """The memory has no vectors of the encoder that the settings or the request name."""

    code = "encoder_mismatch"
    status = 409


class Unavailable(VisualMemoryError):
    """A component that the request needs does not answer; send it again later."""

    code = "unavailable"
    status = 503


class OutOfSpace(Unavailable):
    """A disk is full; send the request again once there is free space."""

    code = "out_of_space"
    status = 507
