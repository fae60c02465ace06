"""Settings of the HTTP API."""

from typing import Annotated

from pydantic import Field

from visual_memory.services.settings.settings_section import MAX_AT_ONCE, SettingsSection


class ApiSettings(SettingsSection):
    """The HTTP API."""

    host: Annotated[str, Field(description="address to listen on")] = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535, description="port to listen on")] = 8700
    max_body_bytes: Annotated[int, Field(ge=1024, description="largest request")] = 64 * 2**20
    body_seconds: Annotated[
        int, Field(ge=1, description="longest time that a request's body may take, and 1 s more for each 256 KiB")
    ] = 60
    max_bytes_in_flight: Annotated[
        int,
        Field(
            ge=1024,
            description="bytes of requests and long answers in memory at once; one tenant alone may use three quarters",
        ),
    ] = 256 * 2**20
    max_concurrent_requests: Annotated[
        int,
        Field(
            ge=2,
            le=1000,
            description="requests processed at once, up to three quarters of them of one tenant; more wait, with fair"
            " scheduling between tenants",
        ),
    ] = 32
    max_listeners: Annotated[
        int,
        Field(
            ge=0,
            le=100_000,
            description="connections that listen to events at once, up to three quarters of them of one tenant",
        ),
    ] = 2000
    max_listeners_per_key: Annotated[int, Field(ge=1, description="the same of one API key")] = 100
    max_images: Annotated[int, Field(ge=1, le=MAX_AT_ONCE, description="most pictures or vectors in one request")] = 256
    metrics_port: Annotated[
        int | None, Field(ge=1, le=65535, description="port of 127.0.0.1 for /metrics of the processes; unset: none")
    ] = None
