"""Settings of vectors, records and pictures: where they are stored, and which pictures are accepted."""

from typing import Annotated

from pydantic import Field, SecretStr, model_validator

from visual_memory.services.settings.settings_section import SettingsSection

HOST_PATTERN = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*(:[1-9][0-9]{0,4})?$"
"""A host name in lower case (IDNA), with an optional port."""


class StoreSettings(SettingsSection):
    """The vector database."""

    url: Annotated[
        str | None, Field(description="address of a Qdrant server; unset: Qdrant Edge in the data folder")
    ] = None
    api_key: Annotated[SecretStr | None, Field(description="the server's API key")] = None
    grpc: Annotated[bool, Field(description="use gRPC instead of HTTP to reach the server")] = False
    grpc_port: Annotated[int, Field(ge=1, le=65535, description="the server's gRPC port")] = 6334
    collection: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,200}$", description="name of the collection")] = (
        "visual-memory"
    )
    shards: Annotated[int, Field(ge=1, description="shards of a new collection on a server")] = 1
    replicas: Annotated[int, Field(ge=1, description="replicas of each shard on a server")] = 1
    timeout: Annotated[
        int, Field(ge=1, description="timeout of expensive requests to the store, in seconds: searches, removals")
    ] = 30
    request_timeout: Annotated[
        int, Field(ge=1, description="timeout of other requests to the store, in seconds; then the API answers 503")
    ] = 2
    min_free_bytes: Annotated[
        int,
        Field(ge=64 * 2**20, description="free space required on this machine's disk; with less, only removals run"),
    ] = 256 * 2**20


class RecordsSettings(SettingsSection):
    """The relational database of keys, removals, jobs and all other records."""

    url: Annotated[
        SecretStr | None,
        Field(description="postgresql://USER:PASSWORD@HOST_PATTERN/DATABASE; unset: SQLite in the data folder"),
    ] = None

    @model_validator(mode="after")
    def _check_postgresql(self) -> "RecordsSettings":
        if self.url is not None and not self.url.get_secret_value().startswith(("postgresql://", "postgres://")):
            raise ValueError(
                "records.url names a PostgreSQL database: postgresql://USER:PASSWORD@HOST_PATTERN/DATABASE"
            )
        return self


class RemovalSettings(SettingsSection):
    """Removals."""

    mirror: Annotated[
        str | None,
        Field(
            description="any fsspec URL, such as a folder of another disk or s3://bucket/folder: each removal is"
            " written there before its receipt is given, and a restore needs it; unset: none"
        ),
    ] = None


class PictureSettings(SettingsSection):
    """Pictures: where they are stored, and which are accepted."""

    url: Annotated[
        str | None, Field(description="any fsspec URL, such as s3://bucket/folder; unset: a folder in the data folder")
    ] = None
    max_bytes: Annotated[int, Field(ge=1024, description="largest picture, in bytes")] = 20 * 2**20
    max_pixels: Annotated[int, Field(ge=1, le=178_956_970, description="largest picture, width times height")] = (
        50_000_000
    )
    decode_seconds: Annotated[int, Field(ge=1, description="longest time that decoding one picture may take")] = 10
    url_hosts: Annotated[
        list[Annotated[str, Field(pattern=HOST_PATTERN, max_length=260)]],
        Field(
            description="hosts that pictures may be fetched from by https URL, each with :port if not 443; none: off"
        ),
    ] = Field(default_factory=list)
