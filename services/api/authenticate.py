"""Who is calling: the key that a request carries, and the memory that it opens."""

import asyncio
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Header, Request
from fastapi.security.utils import get_authorization_scheme_param
from sqlalchemy import Connection
from starlette.concurrency import run_in_threadpool

from visual_memory.schemas.api_key import Key, Scope
from visual_memory.schemas.errors import Forbidden, VisualMemoryError
from visual_memory.schemas.filter import Filter
from visual_memory.services.access.api_keys import ApiKeys, Found
from visual_memory.services.access.idempotency_keys import AlreadyMade
from visual_memory.services.bootstrap.api_process import ApiProcess
from visual_memory.services.infrastructure.records.database import Within

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=r"^[!-~]{1,200}$",
        description="1 to 200 printable characters of ASCII: the same request with the same key is done once in a day",
    ),
]

NAMING = {"subject", "file_name"}
"""Fields that say whom an image shows: a file is often called so."""


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
        """Refuse to say who is in the memory to whom may not look at its images; it is logged who asks for whom.

        Raises:
            Forbidden: the filter is by subject or file name, and the key may not `read`.
        """
        named = sorted(NAMING & where.root.keys())
        if named and not self.key.may(Scope.READ):
            held = ", ".join(self.key.scopes)
            raise Forbidden(f"a filter by {named[0]} needs a key with the scope read too; this one has {held}")
        self.log_named(where)

    def log_named(self, where: Filter) -> None:
        """Log whom a filter names by which something is asked for."""
        if subjects := where.named("subject"):
            self.saw(None, subjects)

    @property
    def _who(self) -> dict[str, str]:
        return {"key": self.key.id, "request": self.request_id}

    def recorded_action(self, action: str, **said: Any) -> AbstractContextManager[dict[str, Any]]:
        """Do something that the audit log tells of; see `services.access.audit_log.AuditLog.recorded_action`."""
        return self.service.audit.recorded_action(self.tenant, self.key.name, action, **self._who, **said)

    def recorded_afterwards(self, action: str, **said: Any) -> AbstractContextManager[dict[str, Any]]:
        """The same of what may be done again; see `services.access.audit_log.Audit.afterwards`."""
        return self.service.audit.recorded_afterwards(self.tenant, self.key.name, action, **self._who, **said)

    def saw(self, images: int | None, subjects: Collection[str]) -> None:
        """Log what is about to be shown: so many images, or what is made of them, and whom these show or name."""
        self.service.audit.write(self.tenant, self.key.name, "read", subjects, images=images, **self._who)

    def logged(self, action: str, kind: str, **said: Any) -> Within:
        """Log what is done to something of a kind (the field of `AuditEntry` that has its id), in its transaction."""
        return lambda connection, record: self._record(connection, action, **said, **{kind: record})

    def _record(self, connection: Connection, action: str, **said: Any) -> None:
        self.service.audit.record(connection, self.tenant, self.key.name, action, **self._who, **said)

    def make(
        self, action: str, kind: str, name: str | None, asked: str, make: Callable[[Within], str], **said: Any
    ) -> str:
        """Make what the database keeps, once for all requests of an idempotency key, and log that with it.

        Args:
            action: as the audit log has it.
            kind: of what is made; the field of `AuditEntry` that has its id.
            name: the idempotency key, if there is one.
            asked: all that is asked for, in words.
            make: makes it; is given what to call in its transaction, and returns the id.
            said: further fields of `AuditEntry`.

        Returns:
            the id: of what is made now, or was made of the same request.
        """
        audit, idempotency = self.service.audit, self.service.idempotency
        claim = idempotency.claim(self.tenant, self.key.id, name, f"{action} {asked}") if name else None
        if claim and (made := idempotency.find(claim)) is not None:
            return made

        def within(connection: Connection, resource: str) -> None:
            if claim:
                idempotency.record(connection, claim, resource)
            self._record(connection, action, **said, **{kind: resource})

        try:
            return make(within)
        except AlreadyMade as first:
            return first.resource
        except VisualMemoryError as error:
            audit.write(self.tenant, self.key.name, action, **{**self._who, **said, "outcome": error.code})
            raise

    def once(self, action: str, name: str | None, asked: str, act: Callable[[], str]) -> str:
        """Do what the database does not keep, once for all requests of an idempotency key; what came of it.

        Args:
            action: a word for it.
            name: the idempotency key, if there is one.
            asked: all that is asked for, in words.
            act: does it.
        """
        if not name:
            return act()
        idempotency = self.service.idempotency
        return idempotency.once(idempotency.claim(self.tenant, self.key.id, name, f"{action} {asked}"), act)


class KeyCheck:
    """Checks keys on the event loop; those that must be read are read together, however many are tried.

    Args:
        keys: all of them.
    """

    def __init__(self, keys: ApiKeys) -> None:
        self._keys = keys
        self._wanted: set[str] = set()
        self._lock = asyncio.Lock()
        self._next: asyncio.Task[Found] | None = None

    async def __call__(self, text: str) -> Key:
        """As `ApiKeys.check`."""
        if self._keys.at_hand(text):
            return self._keys.check(text)
        self._wanted.add(text)
        if self._next is None:
            self._next = asyncio.create_task(self._look())
        return self._keys.check(text, await asyncio.shield(self._next))

    async def _look(self) -> Found:
        """Read what is wanted by then, once what is being read is there."""
        async with self._lock:
            self._next = None
            wanted, self._wanted = self._wanted, set()
            return await run_in_threadpool(self._keys.look, wanted)


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
    """Whom the guard has let in; see `services.api.authorize`."""
    found = request.state.caller
    assert isinstance(found, Caller)
    return found


ServiceDep = Annotated[ApiProcess, Depends(service)]
CallerDep = Annotated[Caller, Depends(caller)]
