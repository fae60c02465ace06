"""Authenticate a request: resolve its API key to a caller and a tenant."""

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Header, Request
from fastapi.security.utils import get_authorization_scheme_param
from sqlalchemy import Connection

from visual_memory.schemas.api_key import Key, Scope
from visual_memory.schemas.errors import Forbidden, NotAuthorized, VisualMemoryError
from visual_memory.schemas.filter import Filter
from visual_memory.services.access.api_keys import Found as FoundKeys
from visual_memory.services.access.browser_tokens import LOGIN_LINK, BrowserToken, BrowserTokens
from visual_memory.services.access.browser_tokens import Found as FoundTokens
from visual_memory.services.access.idempotency_keys import AlreadyMade
from visual_memory.services.api.batched_check import BatchedCheck
from visual_memory.services.api.csrf_token import CSRF_HEADER, SAFE_METHODS, check_csrf_token
from visual_memory.services.bootstrap.api_process import ApiProcess
from visual_memory.services.infrastructure.records.database import Within

SESSION_PATH = "/v1/session"
SESSION_COOKIE = "visual_memory_session"

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=r"^[!-~]{1,200}$",
        description="1 to 200 printable ASCII characters: the same request with the same key is executed once in a day",
        examples=["b3f7c1d2-8a4e-4f0b-9c55-0d6e7f8a9b10"],
    ),
]

IDENTIFYING_FIELDS = {"subject", "file_name"}
"""Fields that may identify whom an image shows: files are often named after people."""


@dataclass(frozen=True)
class Caller:
    """Who sent a request, by which key, and the use cases that serve it.

    Attributes:
        token: the session's cookie or the login link's token that was sent in place of the key; None: the key was sent.
    """

    key: Key
    request_id: str
    service: ApiProcess
    token: BrowserToken | None = None

    @property
    def tenant(self) -> str:
        """The tenant of the key."""
        return self.key.tenant

    @property
    def name(self) -> str:
        """The sender as records name it."""
        return f"{self.key.name} (key {self.key.id})"

    @property
    def token_store(self) -> BrowserTokens:
        """The tokens of the kind of `token`."""
        is_link = self.token is not None and self.token.text.startswith(f"{LOGIN_LINK}_")
        return self.service.login_links if is_link else self.service.sessions

    def record(self, connection: Connection, action: str, **fields: Any) -> None:
        """Write an audit log entry within a transaction."""
        self.service.audit.record(connection, self.tenant, self.key.name, action, **self._who, **fields)

    def check_filter(self, where: Filter) -> None:
        """Refuse filters that reveal who is in the memory to a key without `read`; log the subjects of others.

        Raises:
            Forbidden: the filter is by subject or file name, and the key has no scope `read`.
        """
        named = sorted(IDENTIFYING_FIELDS & where.root.keys())
        if named and not self.key.may(Scope.READ):
            granted = ", ".join(self.key.scopes)
            raise Forbidden(f"a filter by {named[0]} needs a key with the scope read too; this one has {granted}")
        self.log_subjects(where)

    def log_subjects(self, where: Filter) -> None:
        """Write the subjects that a filter names into the audit log."""
        if subjects := where.named("subject"):
            self.log_read(None, subjects)

    @property
    def _who(self) -> dict[str, str]:
        return {"key": self.key.id, "request": self.request_id}

    def recorded_action(self, action: str, **fields: Any) -> AbstractContextManager[dict[str, Any]]:
        """Write an audit log entry before an action, and its outcome afterwards; see `AuditLog`."""
        return self.service.audit.recorded_action(self.tenant, self.key.name, action, **self._who, **fields)

    def recorded_afterwards(self, action: str, **fields: Any) -> AbstractContextManager[dict[str, Any]]:
        """Write an audit log entry after an action that may be repeated; see `AuditLog`."""
        return self.service.audit.recorded_afterwards(self.tenant, self.key.name, action, **self._who, **fields)

    def log_read(self, images: int | None, subjects: Collection[str]) -> None:
        """Write into the audit log what an answer shows: the number of images, and the subjects."""
        self.service.audit.write(self.tenant, self.key.name, "read", subjects, images=images, **self._who)

    def audit_entry(self, action: str, kind: str | None, **fields: Any) -> Within:
        """Return a callback that writes an audit log entry within a transaction.

        Args:
            action: of the entry.
            kind: the field of `AuditEntry` for the id that the callback receives; None: it is not written.
            fields: further fields of `AuditEntry`.
        """
        return lambda connection, record: self.record(
            connection, action, **fields, **({} if kind is None else {kind: record})
        )

    def create_once(
        self,
        action: str,
        kind: str,
        idempotency_key: str | None,
        request: str,
        create: Callable[[Within], str],
        **fields: Any,
    ) -> str:
        """Create a record, once for all requests with an idempotency key, and its audit log entry.

        Args:
            action: of the audit log entry.
            kind: the field of `AuditEntry` for the record's id.
            idempotency_key: of the request, if given.
            request: the whole request as text: another one with the same key is refused.
            create: creates the record and returns its id; it calls its argument within its transaction.
            fields: further fields of `AuditEntry`.

        Returns:
            the id of the record that was created now, or earlier by the same request.
        """
        audit, idempotency = self.service.audit, self.service.idempotency
        claim = None
        if idempotency_key:
            claim = idempotency.claim(self.tenant, self.key.id, idempotency_key, f"{action} {request}")
        if claim and (created := idempotency.find(claim)) is not None:
            return created

        def within(connection: Connection, resource: str) -> None:
            if claim:
                idempotency.record(connection, claim, resource)
            self.record(connection, action, **fields, **{kind: resource})

        try:
            return create(within)
        except AlreadyMade as first:
            return first.resource
        except VisualMemoryError as error:
            audit.write(self.tenant, self.key.name, action, **{**self._who, **fields, "outcome": error.code})
            raise

    def run_once(self, action: str, idempotency_key: str | None, request: str, act: Callable[[], str]) -> str:
        """Run an action that creates no record, once for all requests with an idempotency key; return its result.

        Args:
            action: its name.
            idempotency_key: of the request, if given.
            request: the whole request as text: another one with the same key is refused.
            act: runs it.
        """
        if not idempotency_key:
            return act()
        idempotency = self.service.idempotency
        claim = idempotency.claim(self.tenant, self.key.id, idempotency_key, f"{action} {request}")
        return idempotency.once(claim, act)


@dataclass(frozen=True)
class Credential:
    """What authenticates a request: an API key, or the token that stands for it."""

    key: Key
    token: BrowserToken | None = None

    @classmethod
    def of_token(cls, token: BrowserToken) -> "Credential":
        """A token's credential."""
        return cls(token.key, token)


@dataclass(frozen=True)
class CredentialChecks:
    """A check for each kind of credential."""

    key: BatchedCheck[FoundKeys, Key]
    session: BatchedCheck[FoundTokens, BrowserToken]
    login_link: BatchedCheck[FoundTokens, BrowserToken]


async def authenticate(request: Request) -> Caller:
    """Find the caller of a request from its headers: an API key, a session's cookie, or a login link's token.

    Raises:
        Forbidden: a session's request that may change something lacks the session's CSRF token.
        NotAuthorized: it has no valid credential.
    """
    process = request.app.state.service.current()
    credential = await _credential(request)
    caller = request.state.caller = Caller(credential.key, request.state.request_id, process, credential.token)
    return caller


async def _credential(request: Request) -> "Credential":
    checks: CredentialChecks = request.app.state.credential_checks
    scheme, text = get_authorization_scheme_param(request.headers.get("Authorization"))
    if scheme.lower() == "bearer" and text.startswith(f"{LOGIN_LINK}_"):
        if request.scope["path"] != SESSION_PATH or request.method != "POST":
            raise NotAuthorized(f"a login link's token only opens a session: POST {SESSION_PATH}")
        return Credential.of_token(await checks.login_link(text))
    cookie = request.cookies.get(SESSION_COOKIE)
    if scheme or cookie is None:
        return Credential(await checks.key(text if scheme.lower() == "bearer" else ""))
    token = await checks.session(cookie)
    if request.method not in SAFE_METHODS:
        check_csrf_token(cookie, request.headers.get(CSRF_HEADER))
    return Credential.of_token(token)


# Coroutines, so that they run on the event loop: FastAPI runs plain functions in a thread.


async def process_of(request: Request) -> ApiProcess:
    """Return the use cases for the encoder that was active when the request was authenticated."""
    return (await caller(request)).service


async def caller(request: Request) -> Caller:
    """Return the caller of an authorized request; see `services.api.authorize`."""
    found = request.state.caller
    assert isinstance(found, Caller)
    return found


ServiceDep = Annotated[ApiProcess, Depends(process_of)]
CallerDep = Annotated[Caller, Depends(caller)]
