"""Settings of the task queue, the workers, and the streams of the intake."""

from typing import Annotated, Literal

from pydantic import Field

from visual_memory.schemas.api_key import Tenant
from visual_memory.services.settings.settings_section import SettingsSection


class BrokerSettings(SettingsSection):
    """Redis as the broker of the workers."""

    url: Annotated[
        str | None,
        Field(description="redis://, rediss:// or redis+socket://; unset: a private server in the data folder"),
    ] = None
    prefix: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z0-9_.-]{1,64}$",
            description="prefix of all key names in Redis, before a digest of collection and secret",
        ),
    ] = "visual-memory"
    events: Annotated[
        int,
        Field(
            ge=100,
            description="approximate number of events stored of each tenant, for listeners to resume; the oldest are"
            " deleted",
        ),
    ] = 1000


class WorkerSettings(SettingsSection):
    """The Celery workers."""

    concurrency: Annotated[int, Field(ge=1, le=256, description="messages that one worker handles at once")] = 4
    max_attempts: Annotated[int, Field(ge=1, description="how often an image is tried before it is rejected")] = 3
    sweep_seconds: Annotated[
        int, Field(ge=1, description="seconds between sweeps, which enqueue again what was left behind")
    ] = 5
    compact_seconds: Annotated[
        int,
        Field(
            ge=60,
            description="longest time until removed bytes are erased from the disk, if that rewrites over 1 GiB; else"
            " 10 minutes",
        ),
    ] = 86_400
    lease_seconds: Annotated[
        int,
        Field(
            ge=1,
            description="how long an image may wait, or be leased to one worker, until it is enqueued again",
        ),
    ] = 20
    metrics_port: Annotated[
        int | None, Field(ge=1, le=65535, description="port of 127.0.0.1 for a worker's own /metrics; unset: none")
    ] = None
    jobs_metrics_port: Annotated[int | None, Field(ge=1, le=65535, description="the same for a worker of jobs")] = None


class IntakeSettings(SettingsSection):
    """The streams of producers without HTTP, in a separate Redis: if it is full, nothing else is affected."""

    url: Annotated[
        str | None,
        Field(
            pattern=r"^(rediss?|unix)://",
            description="redis://USER:PASSWORD@HOST or rediss://..., with appendonly yes and noeviction; unset: a"
            " second private server in the data folder",
        ),
    ] = None
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="prefix of all its key names")] = (
        "visual-memory"
    )
    port: Annotated[
        int | None,
        Field(ge=1, le=65535, description="port of the private server, besides its unix socket; unset: none"),
    ] = None
    host: Annotated[str, Field(description="address of that port")] = "127.0.0.1"
    max_bytes: Annotated[
        int, Field(ge=16 * 2**20, description="memory limit of the private server; when full it refuses entries")
    ] = 2**30
    references: Annotated[
        dict[Literal["*"] | Tenant, list[Annotated[str, Field(min_length=1)]]],
        Field(
            description='URL prefixes of pictures that entries may name instead of sending them, by tenant, "*" for'
            ' every other: {"shop": ["s3://bucket/shop/"]}; none: off'
        ),
    ] = Field(default_factory=dict)
    celery: Annotated[
        list[Literal["*"] | Tenant],
        Field(
            description='tenants that Celery messages may name, "*" for all; the broker does not authenticate senders,'
            " so if others can write to it, list the tenants that they may send to"
        ),
    ] = Field(default=["*"])
    results: Annotated[
        int, Field(ge=100, description="approximate number of results stored of each tenant; the oldest are deleted")
    ] = 10_000
    metrics_port: Annotated[
        int | None, Field(ge=1, le=65535, description="port of 127.0.0.1 for the reader's own /metrics; unset: none")
    ] = None
