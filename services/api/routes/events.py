"""Listen to the events of the caller's tenant."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response

from visual_memory.schemas.api_key import Scope
from visual_memory.schemas.errors import InvalidCursor, InvalidParameter, NotAuthorized, VisualMemoryError
from visual_memory.schemas.event import EventType
from visual_memory.schemas.fault import Fault
from visual_memory.schemas.fault_sentences import NOT_ALLOWED
from visual_memory.schemas.validation_faults import error_of_faults
from visual_memory.services.api.authenticate import CallerDep, authenticate
from visual_memory.services.api.authorize import AuthorizedRoute, requires_scope
from visual_memory.services.api.event_stream import EventStream
from visual_memory.services.infrastructure.events.event_entries import CURSOR
from visual_memory.services.infrastructure.events.event_listeners import EventListeners

router = APIRouter(prefix="/v1", tags=["events"], route_class=AuthorizedRoute)

MAX_SECONDS = 86_400
_TYPE = "|".join(EventType)
TYPES_PATTERN = f"^({_TYPE})(,({_TYPE}))*$"
EVENT_SCHEMA: dict[str, Any] = {
    "title": "ServerSentEvent",
    "type": "object",
    "required": ["data"],
    "properties": {
        "id": {"type": "string", "description": "the event's cursor", "examples": ["1767225600000-0"]},
        "event": {"type": "string", "description": "the event's type", "examples": [EventType.REMEMBERED]},
        "data": {
            "type": "string",
            "description": "the event as JSON",
            "contentMediaType": "application/json",
            "contentSchema": {"$ref": "#/components/schemas/Event"},
        },
    },
}
EVENTS = {
    "description": "Server-sent events, each of this form. A comment comes every 15 seconds without an event.",
    "content": {"text/event-stream": {"schema": EVENT_SCHEMA}},
}


@router.get(
    "/events",
    operation_id="stream_events",
    summary="Listen to events",
    response_class=Response,
    responses={200: EVENTS},
)
@requires_scope(Scope.READ)
async def stream_events(
    request: Request,
    caller: CallerDep,
    types: Annotated[
        str | None,
        Query(
            description="only events of these types, separated by commas, and `resync`; all without it",
            examples=["remembered,removed"],
            json_schema_extra={"pattern": TYPES_PATTERN},
        ),
    ] = None,
    cursor: Annotated[
        str | None,
        Query(
            description="the cursor of the last event that was received: later ones follow, or `resync` if some of them"
            " are not stored any more; without it, only what happens from now on",
            examples=["1767225600000-0"],
            json_schema_extra={"pattern": CURSOR.pattern},
        ),
    ] = None,
    last_event_id: Annotated[
        str | None,
        Header(
            alias="Last-Event-ID",
            description="the same as `cursor`, and counts instead of it: browsers send it when they reconnect",
            examples=["1767225600000-0"],
            json_schema_extra={"pattern": CURSOR.pattern},
        ),
    ] = None,
    timeout_seconds: Annotated[
        float | None,
        Query(
            gt=0,
            le=MAX_SECONDS,
            description="ends the stream after this time, for clients that cannot read an endless answer",
            examples=[30],
        ),
    ] = None,
) -> Response:
    """Stream what happens in the tenant of the key: images, removals and jobs, without labels, names and subjects.

    Events are hints to read again: a process that is killed may lose its last ones. After `resync`, read everything
    that you show again. The stream ends when the key is revoked, and when the service stops; connect again with the
    last cursor.
    """
    wanted, named, resumed = _parse_types(types), _check_cursor(cursor), _check_cursor(last_event_id)
    begin = resumed or named
    listeners = request.app.state.event_listeners
    assert isinstance(listeners, EventListeners)
    admissions = request.state.admissions
    admissions.close()  # of a request; a listener has a cap of its own
    listener = admissions.enter_context(listeners.listening(caller.tenant, caller.key.id, wanted, begin))

    async def may_listen() -> bool:
        try:
            return (await authenticate(request)).key.may(Scope.READ)
        except NotAuthorized:
            return False
        except VisualMemoryError:  # the records do not answer at the moment
            return True

    return EventStream(listener, may_listen, timeout_seconds)


def _parse_types(text: str | None) -> frozenset[str]:
    """Parse the types of events.

    Raises:
        InvalidParameter: there is no such type.
    """
    wanted = frozenset() if text is None else frozenset(text.split(","))
    if unknown := sorted(wanted - frozenset(EventType)):
        detail = f"there is no type {unknown[0]!r}; there are {', '.join(EventType)}"
        raise error_of_faults(InvalidParameter, [Fault(parameter="types", code=NOT_ALLOWED, detail=detail)])
    return wanted


def _check_cursor(text: str | None) -> str | None:
    """Check a cursor, and return it.

    Raises:
        InvalidCursor: it is not the cursor of an event.
    """
    if text is not None and not CURSOR.fullmatch(text):
        raise InvalidCursor("cursor: no event has it; begin without one")
    return text
