"""Who is calling: the key that a request carries, and the memory that it opens."""

import asyncio
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.security.utils import get_authorization_scheme_param
from starlette.concurrency import run_in_threadpool

from schemas.errors import Forbidden
from schemas.filter import Filter
from schemas.key import Key, Scope
from services.access.keys import Keys
from services.api.shared_call import SharedCall
from services.bootstrap.api_process import ApiProcess
from services.infrastructure.processes.fair_queue import FairQueue

READS = 4
"""Keys that are read at once."""


@dataclass(frozen=True)
class Caller:
    """Whose memory a request speaks of, and who sent it."""

    key: Key
    request_id: str
    service: ApiProcess

    @property
    def tenant(self) -> str:
        """The tenant that the key opens."""
        return self.key.tenant

    @property
    def name(self) -> str:
        """How records name whoever sent the request."""
        return f"{self.key.name} (key {self.key.id})"

    def check_filter(self, where: Filter) -> None:
        """Refuse to say who is in the memory to whom may not look at its images.

        Raises:
            Forbidden: the filter names subjects, and the key may not `read`.
        """
        if "subject" in where.root and not self.key.may(Scope.READ):
            held = ", ".join(self.key.scopes)
            raise Forbidden(f"a filter by subject needs a key with the scope read too; this one has {held}")

    def deed(self, action: str, **said: Any) -> AbstractContextManager[dict[str, Any]]:
        """Do something that the audit log tells of; see `services.access.audit.Audit.deed`."""
        who = {"key": self.key.id, "request": self.request_id}
        return self.service.audit.deed(self.tenant, self.key.name, action, **who, **said)


class KeyCheck:
    """Checks keys on the event loop; what must be read for it takes few threads, however many keys are tried.

    Args:
        keys: all of them.
    """

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._look = SharedCall(keys.look)
        self._reads = FairQueue([None] * READS, 1)

    async def __call__(self, text: str) -> Key:
        """As `Keys.check`."""
        if self._keys.at_hand(text):
            return self._keys.check(text)
        if self._keys.knows(text) is None:
            await self._look()
        key_id = self._keys.knows(text)
        return await self._read(key_id, text) if key_id else self._keys.check("")

    async def _read(self, key_id: str, text: str) -> Key:
        turn = self._reads.request(key_id)
        try:
            await asyncio.wrap_future(turn)
            if self._keys.at_hand(text):  # another request of the key has read it meanwhile
                return self._keys.check(text)
            return await run_in_threadpool(self._keys.check, text)
        finally:
            self._reads.release(key_id, turn)


async def identify(request: Request) -> Caller:
    """Find out who sent a request, from its headers alone.

    Raises:
        NotAuthorized: it carries no key that opens anything.
    """
    parts = request.app.state.service.current()
    scheme, text = get_authorization_scheme_param(request.headers.get("Authorization"))
    text = text if scheme.lower() == "bearer" else ""
    key = await request.app.state.key_check(text)
    found = request.state.caller = Caller(key, request.state.request_id, parts)
    return found


# Both are coroutines only so that they run where they are: a plain function would cost each request a thread's turn.


async def service(request: Request) -> ApiProcess:
    """The parts that are wired for the request's encoder: the one that classified when the guard let it in."""
    return (await caller(request)).service


async def caller(request: Request) -> Caller:
    """Whom the guard has let in; see `services.api.guard`."""
    found = request.state.caller
    assert isinstance(found, Caller)
    return found


ServiceDep = Annotated[ApiProcess, Depends(service)]
CallerDep = Annotated[Caller, Depends(caller)]
