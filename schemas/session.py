"""A session of a browser, and the caller of a request."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from visual_memory.schemas.api_key import Scope


class Session(BaseModel):
    """A session of a browser: its cookie stands for an API key."""

    model_config = ConfigDict(frozen=True)

    key: str = Field(description="the id of the API key", examples=["9f86d081884c"])
    expires_at: datetime = Field(description="when the session ends", examples=["2026-01-31T12:00:00Z"])
    csrf_token: str = Field(
        description="sent as `X-CSRF-Token` with every request of the session but GET and HEAD",
        examples=["yPPqQk8GbW1xkV1bN0Yb6oNnWvHjzT6f1VnYb2J3m0Q"],
    )


class Limits(BaseModel):
    """The limits of requests."""

    model_config = ConfigDict(frozen=True)

    requests_per_minute: int | None = Field(description="the most requests of the key; null: no limit", examples=[600])
    bytes_per_minute: int | None = Field(
        description="the most bytes of request bodies of the key; null: no limit", examples=[100_000_000]
    )
    body_bytes: int = Field(description="the largest body of a request", examples=[67_108_864])
    images: int = Field(description="the most pictures or vectors of a request", examples=[256])
    picture_bytes: int = Field(description="the largest picture, in bytes", examples=[20_971_520])
    picture_pixels: int = Field(description="the largest picture, width times height", examples=[50_000_000])


class Features(BaseModel):
    """What is switched on for the tenant."""

    model_config = ConfigDict(frozen=True)

    label_check: str = Field(
        description="what happens to new images whose neighbours vote for another label: off, warn or hold",
        examples=["warn"],
    )
    prune: str = Field(description="the pruning of classifications that do not choose one", examples=["none"])
    judgements: bool = Field(description="whether the memory is judged by itself when it has changed", examples=[True])
    rerank: bool = Field(description="whether a vision-language model may decide close votes", examples=[False])
    picture_urls: bool = Field(description="whether pictures may be sent as URLs", examples=[False])
    filter_fields: dict[str, str] = Field(
        description="metadata fields that filters may name, with their types", examples=[{"site": "keyword"}]
    )
    retention: bool = Field(description="whether the life of some images is limited", examples=[False])


class Me(BaseModel):
    """The caller of a request: who it is, what it may do, and what is switched on."""

    model_config = ConfigDict(frozen=True)

    tenant: str = Field(description="the tenant of the key", examples=["north"])
    key: str = Field(description="the id of the key", examples=["9f86d081884c"])
    name: str = Field(description="the name of the key", examples=["camera"])
    scopes: list[Scope] = Field(description="what the key may do", examples=[["classify", "read"]])
    session_expires_at: datetime | None = Field(
        description="when the session ends; null where the key itself was sent", examples=[None]
    )
    encoder: str = Field(description="the active encoder", examples=["efficientnet-lite0"])
    version: str = Field(description="the version of the service", examples=["0.1.0"])
    limits: Limits = Field(description="the limits of requests")
    features: Features = Field(description="what is switched on")
