"""API keys: their tenant, scopes and rate limits."""

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from visual_memory.schemas.compatibility import OpenEnum
from visual_memory.schemas.errors import InvalidRequest
from visual_memory.schemas.text_rules import Text

Tenant = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
RequestsPerMinute = Annotated[int, Field(ge=1, le=2**31 - 1)]
BytesPerMinute = Annotated[int, Field(ge=1, le=2**53)]
_TENANT = TypeAdapter[str](Tenant)


def check_tenant(name: str) -> str:
    """Check the name of a tenant.

    Raises:
        InvalidRequest: the name is invalid.
    """
    try:
        return _TENANT.validate_python(name)
    except ValidationError:
        raise InvalidRequest(
            f"{name!r} is not the name of a tenant: 1 to 63 of a-z 0-9 _ -, beginning with a letter or digit"
        ) from None


class Scope(OpenEnum):
    """What a key may do; ``admin`` may do everything.

    ``classify``: classify; see ids and labels of neighbours, classes, and evaluations. ``read``: see images with all
    their fields, suspects, and stored decisions. ``remember``: send, change and mute images, and see the outcome.
    ``remove``: remove images, at once or by an earlier ``expires_at``, and see removals.
    """

    CLASSIFY = "classify"
    READ = "read"
    REMEMBER = "remember"
    REMOVE = "remove"
    ADMIN = "admin"


class TenantKeyRequest(BaseModel):
    """A request for a new key of the caller's tenant."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Text = Field(
        description="for people, 1 to 200 characters; receipts and the audit log contain it", examples=["camera"]
    )
    scopes: Annotated[list[Scope], Field(min_length=1), AfterValidator(lambda scopes: sorted(set(scopes)))] = Field(
        description="one or more", examples=[["classify", "read"]]
    )
    requests_per_minute: RequestsPerMinute | None = Field(
        default=None, description="the most requests; null: no limit", examples=[600]
    )
    bytes_per_minute: BytesPerMinute | None = Field(
        default=None, description="the most bytes of request bodies; null: no limit", examples=[100000000]
    )


class KeyRequest(TenantKeyRequest):
    """A request for a new key of any tenant."""

    tenant: Tenant = Field(
        description="the key's tenant: 1 to 63 of a-z 0-9 _ -, beginning with a letter or digit", examples=["north"]
    )


class Key(KeyRequest):
    """A key as it is stored and shown, without its secret."""

    name: str = Field(description="as it was sent; earlier versions had other rules for names", examples=["camera"])
    id: str = Field(
        description="12 hex digits; part of the key's text, and its name in logs and records", examples=["4f1c0a7b9d2e"]
    )
    created_at: datetime = Field(description="when it was made", examples=["2026-01-31T12:00:00Z"])
    revoked_at: datetime | None = Field(default=None, description="null while the key is valid", examples=[None])

    def may(self, scope: Scope) -> bool:
        """Whether the key has a scope, or ``admin``."""
        return scope in self.scopes or Scope.ADMIN in self.scopes


class NewKey(BaseModel):
    """A new key with its text, ``vm_ID_SECRET``, which is shown only once."""

    key: Key = Field(description="the key without its secret")
    text: str = Field(
        description="the key's text, `vm_ID_SECRET`; it is shown only once", examples=["vm_9f86d081884c_SECRET"]
    )
