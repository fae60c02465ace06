"""Sessions of browsers: change an API key or a login link's token into a cookie."""

from fastapi import APIRouter, Request, Response
from sqlalchemy import Connection

from visual_memory.schemas.errors import NotFound
from visual_memory.schemas.session import Session
from visual_memory.services.access.browser_tokens import SESSION_LIFETIME, BrowserToken
from visual_memory.services.api.authenticate import SESSION_COOKIE, Caller, CallerDep, ServiceDep
from visual_memory.services.api.authorize import ANY_SCOPE, AuthorizedRoute, requires_scope
from visual_memory.services.api.csrf_token import csrf_token

router = APIRouter(prefix="/v1", tags=["session"], route_class=AuthorizedRoute)


@router.post("/session", operation_id="open_session", status_code=201)
@requires_scope(ANY_SCOPE)
def open_session(request: Request, caller: CallerDep, service: ServiceDep, response: Response) -> Session:
    """Change an API key, or a login link's token, into a session: a cookie that stands for the key for 12 hours.

    The key or the token is sent as `Authorization: Bearer ...`. A session that opens another one ends. All sessions of
    a key end with it. A session's requests other than GET and HEAD need the header `X-CSRF-Token`.
    """

    def within(connection: Connection) -> None:
        if caller.token is not None:
            caller.token_store.end(connection, caller.token.text)
        caller.record(connection, "session.open")

    token = service.sessions.make(caller.key, within)
    seconds = int(SESSION_LIFETIME.total_seconds())
    secure = request.url.scheme == "https"
    response.set_cookie(SESSION_COOKIE, token.text, seconds, httponly=True, samesite="lax", secure=secure)
    response.headers["Location"] = "/v1/session"
    return as_session(token)


@router.get("/session", operation_id="get_session")
@requires_scope(ANY_SCOPE)
def get_session(caller: CallerDep) -> Session:
    """Return the session of the request's cookie, with its CSRF token."""
    return as_session(_session_of(caller))


@router.delete("/session", operation_id="close_session", status_code=204)
@requires_scope(ANY_SCOPE)
def close_session(caller: CallerDep, service: ServiceDep, response: Response) -> None:
    """End the session of the request's cookie; every process refuses the cookie within a second."""
    service.sessions.close(_session_of(caller).text)
    response.delete_cookie(SESSION_COOKIE, httponly=True, samesite="lax")


def as_session(token: BrowserToken) -> Session:
    """Return the public fields of a session."""
    return Session(key=token.key.id, expires_at=token.expires_at, csrf_token=csrf_token(token.text))


def _session_of(caller: Caller) -> BrowserToken:
    if caller.token is None:
        raise NotFound("the request has a key and no session: POST /v1/session opens one")
    return caller.token
