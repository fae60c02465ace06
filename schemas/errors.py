"""The errors for callers: each has a stable code, a title, an HTTP status, and a message on how to fix it.

Raise the most specific class; the API answers with problem details as of RFC 9457. The first paragraph of a class's
docstring is what ``/docs/errors`` says of its code.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:  # processes without pydantic raise errors too
    from visual_memory.schemas.fault import Fault


class VisualMemoryError(Exception):
    """An unexpected error of the service, which its log tells about under the request's X-Request-Id.

    It is also the base class of errors for callers.

    Attributes:
        code: stable machine-readable name, in snake case.
        title: the kind of error in words; always the same for a code.
        status: the HTTP status of the response, 400 to 599.
        message: a sentence for people: what is wrong and how to fix it.
        errors: every fault of the request with its place, where there are such.
        request_id: of the request that was answered so; empty in the service itself.
        retry_after: whole seconds until the request may be sent again; None where that may not help.
    """

    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"
    status: ClassVar[int] = 500
    errors: "Sequence[Fault]" = ()
    request_id: str = ""
    retry_after: int | None = None

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    @property
    def every_fault(self) -> str:
        """The message; of several faults the sentences of all."""
        return "; ".join(map(str, self.errors)) if len(self.errors) > 1 else self.message


class InvalidRequest(VisualMemoryError):
    """The request has a missing, unknown or invalid part."""

    code = "invalid_request"
    title = "Invalid request"
    status = 422


class NotAnEvent(InvalidRequest):
    """The entry of a stream is not an event of a known form."""

    code = "not_an_event"
    title = "Not an event"


class RefusedEvent(InvalidRequest):
    """An event has the right form, and its content breaks a rule.

    Attributes:
        event_id: the producer's id of the event; empty where it is not known.
    """

    code = "refused_event"
    title = "Refused event"

    def __init__(self, message: str, event_id: str = "") -> None:
        super().__init__(message)
        self.event_id = event_id


class InvalidJson(InvalidRequest):
    """The body is not JSON in UTF-8, or nested too deeply to be read."""

    code = "invalid_json"
    title = "Invalid JSON"


class InvalidForm(InvalidRequest):
    """The body is not a form (``multipart/form-data``) that can be read, or has too many or too long parts."""

    code = "invalid_form"
    title = "Invalid form"


class InvalidParameter(InvalidRequest):
    """A parameter of the query or of the path has a value that is not allowed, or is given twice."""

    code = "invalid_parameter"
    title = "Invalid parameter"


class UnknownParameter(InvalidParameter):
    """The query has a parameter that this route does not have, and that would be ignored."""

    code = "unknown_parameter"
    title = "Unknown parameter"


class InvalidCursor(InvalidParameter):
    """A cursor that no page of this list ended with; begin again without one."""

    code = "invalid_cursor"
    title = "Invalid cursor"

    def __init__(self, message: str = "cursor: no page of this list ended with it; begin without one") -> None:
        super().__init__(message)


class InvalidHeader(InvalidRequest):
    """A header has a value that is not allowed."""

    code = "invalid_header"
    title = "Invalid header"


class InvalidFilter(InvalidRequest):
    """A filter names an unknown field, has a value of the wrong type, or is empty where it must not be."""

    code = "invalid_filter"
    title = "Invalid filter"


class InvalidVector(InvalidRequest):
    """A vector has the wrong length, is not finite, or is zero."""

    code = "invalid_vector"
    title = "Invalid vector"


class FetchFailed(InvalidRequest):
    """A host did not return the picture of a URL."""

    code = "fetch_failed"
    title = "Picture not fetched"


class FetchUnanswered(FetchFailed):
    """A host or store did not answer, or answered that it is unavailable; a retry may succeed."""


class InvalidPicture(InvalidRequest):
    """The bytes are not a picture that can be decoded."""

    code = "invalid_picture"
    title = "Invalid picture"


class DecoderFailed(InvalidPicture):
    """Decoding the picture took too much time or memory, or crashed the decoder's process."""

    code = "decoder_failed"
    title = "Picture not decoded"


class MalformedRequest(VisualMemoryError):
    """The bytes are not an HTTP/1.1 request: its line, headers, length or chunks are wrong."""

    code = "malformed_request"
    title = "Malformed request"
    status = 400


class UnsupportedFormat(VisualMemoryError):
    """The format of the picture is none of JPEG, PNG, WebP, AVIF, HEIC, BMP, GIF and TIFF."""

    code = "unsupported_format"
    title = "Unsupported picture format"
    status = 415


class UnsupportedMediaType(VisualMemoryError):
    """The body is of another media type or charset than the route takes; see its Content-Type."""

    code = "unsupported_media_type"
    title = "Unsupported media type"
    status = 415


class MethodNotAllowed(VisualMemoryError):
    """The path exists, but not with this method; the header ``Allow`` names those that it has."""

    code = "method_not_allowed"
    title = "Method not allowed"
    status = 405


class TooLarge(VisualMemoryError):
    """A picture or a request exceeds the limit of bytes or pixels."""

    code = "too_large"
    title = "Too large"
    status = 413


class HeadTooLarge(TooLarge):
    """The request line and headers exceed the limit."""

    code = "head_too_large"
    title = "Request head too large"
    status = 431


class TooSlow(VisualMemoryError):
    """The body of a request did not arrive in time."""

    code = "too_slow"
    title = "Request too slow"
    status = 408


class NotAuthorized(VisualMemoryError):
    """The request has no key, or one that is unknown or revoked."""

    code = "not_authorized"
    title = "Not authorized"
    status = 401


class Forbidden(VisualMemoryError):
    """The key lacks the scope that the request needs."""

    code = "forbidden"
    title = "Forbidden"
    status = 403


class Blocked(VisualMemoryError):
    """A removal with ``block`` has put this content or subject on the blocklist."""

    code = "blocked"
    title = "Blocked"
    status = 403


class NotFound(VisualMemoryError):
    """There is no such image, removal or key."""

    code = "not_found"
    title = "Not found"
    status = 404


class NoSuchPath(NotFound):
    """The API has no such path."""

    code = "no_such_path"
    title = "No such path"


class Conflict(VisualMemoryError):
    """Another request changed the same thing at the same time; send this one again."""

    code = "conflict"
    title = "Conflict"
    status = 409


class AlreadyUndone(Conflict):
    """The change was undone already; its undo is a change that can be undone too."""

    code = "already_undone"
    title = "Already undone"


class BeingRemoved(Conflict):
    """A running removal covers the image; send the request again when the image is deleted."""

    code = "being_removed"
    title = "Being removed"
    retry_after = 1


class PreconditionFailed(VisualMemoryError):
    """The image has changed since the sender read it: ``If-Match`` does not contain its ETag."""

    code = "precondition_failed"
    title = "Precondition failed"
    status = 412


class IdempotencyKeyReused(InvalidRequest):
    """The Idempotency-Key was used by another request within a day."""

    code = "idempotency_key_reused"
    title = "Idempotency key reused"


class RequestRunning(Conflict):
    """A request with the same Idempotency-Key is being processed; send this one again."""

    code = "request_running"
    title = "Request running"
    retry_after = 1

    def __init__(self, message: str = "the same request is being processed: send it again in a second") -> None:
        super().__init__(message)


class NotJudged(VisualMemoryError):
    """The request needs a judgement of the memory, and there is no current one."""

    code = "not_judged"
    title = "Not judged"
    status = 409


class RateLimited(VisualMemoryError):
    """The key has used its requests or bytes of this minute."""

    code = "rate_limited"
    title = "Rate limited"
    status = 429
    retry_after = 60

    def __init__(self, message: str, retry_after: int = 60) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class TooManyListeners(RateLimited):
    """The key, its tenant or this process has too many open connections that listen to events."""

    code = "too_many_listeners"
    title = "Too many listeners"

    def __init__(self, message: str, retry_after: int = 5) -> None:
        super().__init__(message, retry_after)


class EncoderMismatch(VisualMemoryError):
    """The memory has no vectors of the encoder that the settings or the request name."""

    code = "encoder_mismatch"
    title = "Encoder mismatch"
    status = 409


class Unavailable(VisualMemoryError):
    """A component that the request needs does not answer; send it again later."""

    code = "unavailable"
    title = "Unavailable"
    status = 503
    retry_after = 5


class OutOfSpace(Unavailable):
    """A disk is full; send the request again once there is free space."""

    code = "out_of_space"
    title = "Out of space"
    status = 507
    retry_after = 60


def errors_by_code(base: type[VisualMemoryError] = VisualMemoryError) -> dict[str, type[VisualMemoryError]]:
    """Every class of error by its code; of several with one code the most general."""
    found = {base.code: base}
    for child in base.__subclasses__():
        for code, kind in errors_by_code(child).items():
            found.setdefault(code, kind)
    return found
