"""Who is calling: the key, checked in constant time, and the tenant that it opens."""

from dataclasses import dataclass
from hmac import compare_digest
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from schemas.errors import NotAuthorized
from services.bootstrap import Service


@dataclass(frozen=True)
class Caller:
    """Whose memory a request speaks of, and how records name whoever sent it."""

    tenant: str
    name: str


# Both are coroutines only so that they run where they are: a plain function would cost each request a thread's turn.


async def service(request: Request) -> Service:
    """The wired parts, of which there is one set in each process."""
    parts = request.app.state.service
    assert isinstance(parts, Service)
    return parts


async def caller(
    request: Request,
    parts: Annotated[Service, Depends(service)],
    sent: Annotated[HTTPAuthorizationCredentials | None, Security(HTTPBearer(auto_error=False))],
) -> Caller:
    """The caller of a request.

    Raises:
        NotAuthorized: the settings name a key and the request does not carry it.
    """
    address = request.client.host if request.client else "unknown"
    expected = parts.settings.api.key
    if expected is None:
        return Caller(parts.settings.tenant, f"{address}, without a key")
    if sent is None or not compare_digest(sent.credentials.encode(), expected.get_secret_value().encode()):
        raise NotAuthorized("send the API key as 'Authorization: Bearer KEY'")
    return Caller(parts.settings.tenant, f"{address}, with the API key")


ServiceDep = Annotated[Service, Depends(service)]
CallerDep = Annotated[Caller, Depends(caller)]
