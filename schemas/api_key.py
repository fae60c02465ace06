"""An API key: whose memory it opens, and what may be done with it."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from visual_memory.schemas.errors import InvalidRequest
from visual_memory.schemas.text_rules import Text

Tenant = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
PerMinute = Annotated[int, Field(ge=1)]
_TENANT = TypeAdapter[str](Tenant)


def check_tenant(name: str) -> str:
    """The name of a tenant, if it can be one.

    Raises:
        InvalidRequest: it cannot.
    """
    try:
        return _TENANT.validate_python(name)
    except ValidationError:
        raise InvalidRequest(
            f"no tenant is called {name!r}: 1 to 63 of a-z 0-9 _ -, beginning with a letter or digit"
        ) from None


class Scope(StrEnum):
    """What a key may do; ``admin`` may do everything.

    ``classify`` asks, and sees ids and labels of neighbours, classes and evaluations. ``read`` looks at images with all
    their fields, at suspects, and at stored decisions. ``remember`` sends, changes and mutes, and is told what came of
    that. ``remove`` deletes, at once or by an earlier ``expires_at``, and sees removals.
    """

    CLASSIFY = "classify"
    READ = "read"
    REMEMBER = "remember"
    REMOVE = "remove"
    ADMIN = "admin"


class KeyRequest(BaseModel):
    """A key that is to be made.

    Attributes:
        name: what people call it, 1 to 200 characters; it stands in receipts and in the audit log.
        tenant: whose memory it opens: 1 to 63 of a-z 0-9 _ -, beginning with a letter or digit.
        scopes: one or more.
        requests_per_minute: most requests; null: as many as come.
        bytes_per_minute: most bytes of requests' bodies; null: as many as come.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Text
    tenant: Tenant
    scopes: Annotated[list[Scope], Field(min_length=1), AfterValidator(lambda scopes: sorted(set(scopes)))]
    requests_per_minute: PerMinute | None = None
    bytes_per_minute: PerMinute | None = None


class Key(KeyRequest):
    """A key as it is kept and shown, without its secret.

    Attributes:
        name: as it was given, maybe when names could be others.
        id: 12 hex digits; part of the key's text, and what logs and records call it.
        revoked_at: since when it opens nothing; null while it does.
    """

    name: str
    id: str
    created_at: datetime
    revoked_at: datetime | None = None

    def may(self, scope: Scope) -> bool:
        """Whether it has a scope, or ``admin``."""
        return scope in self.scopes or Scope.ADMIN in self.scopes


class NewKey(BaseModel):
    """A key with its text, ``vm_ID_SECRET``, which is shown this once."""

    key: Key
    text: str
