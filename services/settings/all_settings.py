"""All settings: read from the environment and the settings file, and checked together.

The environment (``VISUAL_MEMORY_STORE__URL``) takes precedence over the file. The file is ``visual-memory.toml`` in the
working directory, or the path in ``VISUAL_MEMORY_CONFIG``. An unknown name, an invalid value or a combination that
cannot work stops the start with a message.
"""

import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from visual_memory.schemas.field_types import FieldType
from visual_memory.schemas.text_rules import normalised
from visual_memory.services.settings.api_settings import ApiSettings
from visual_memory.services.settings.classification_settings import CurateSettings, DecisionSettings, RerankSettings
from visual_memory.services.settings.encoder_settings import EncoderSettings
from visual_memory.services.settings.queue_settings import BrokerSettings, IntakeSettings, WorkerSettings
from visual_memory.services.settings.renamed_settings import use_new_names
from visual_memory.services.settings.settings_section import PREFIX
from visual_memory.services.settings.storage_settings import (
    PictureSettings,
    RecordsSettings,
    RemovalSettings,
    StoreSettings,
)

NOT_SETTINGS = {"VISUAL_MEMORY_CONFIG", "VISUAL_MEMORY_URL", "VISUAL_MEMORY_KEY", "VISUAL_MEMORY_WATCH_URL"}
"""Variables that are read elsewhere: the settings file, and the API's address and key for the command line."""

LOCAL_FILE_URL = re.compile(r"^(file|local):(//)?")
"""How fsspec's URLs of local files begin."""

MIN_SECRET_BYTES = 32
"""A shorter secret can be guessed, and then used to sign receipts and messages."""


class Settings(BaseSettings):
    """All settings. Frozen: what was valid at the start stays valid."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
        env_ignore_empty=True,
    )

    data: Annotated[Path, Field(description="folder of all data on this machine")] = Path("visual-memory-data")
    secret: Annotated[
        SecretStr | None,
        Field(
            description="secret that signs receipts, 32 random bytes or more; unset: a file in the data folder",
        ),
    ] = None
    metadata: Annotated[
        dict[str, FieldType],
        Field(
            description="metadata fields that filters may name, with type: keyword, integer, float, boolean, datetime"
        ),
    ] = Field(default_factory=dict)
    retention: Annotated[
        dict[Annotated[str, AfterValidator(normalised)], Annotated[timedelta, Field(gt=timedelta(0))]],
        Field(description='longest life of images by source in seconds, "*" for every other: {"camera-1": 2592000}'),
    ] = Field(default_factory=dict)
    api: ApiSettings = ApiSettings()
    broker: BrokerSettings = BrokerSettings()
    store: StoreSettings = StoreSettings()
    records: RecordsSettings = RecordsSettings()
    pictures: PictureSettings = PictureSettings()
    encoder: EncoderSettings = EncoderSettings()
    worker: WorkerSettings = WorkerSettings()
    rerank: RerankSettings = RerankSettings()
    curate: CurateSettings = CurateSettings()
    removals: RemovalSettings = RemovalSettings()
    decisions: DecisionSettings = DecisionSettings()
    intake: IntakeSettings = IntakeSettings()

    def url_of(self, kind: str) -> str:
        """Return the storage URL of a kind of blobs, such as pictures: below the pictures' URL or the data folder."""
        base = self.pictures.url or str(self.data.absolute())
        return f"{base.rstrip('/')}/{kind}"

    @model_validator(mode="after")
    def _check_variable_names(self) -> "Settings":
        for name in os.environ:
            first = name.removeprefix(PREFIX).split("__")[0].lower()
            if name.startswith(PREFIX) and name not in NOT_SETTINGS and first not in type(self).model_fields:
                raise ValueError(f"{name} in the environment is no setting; docs/settings.md lists them all")
        return self

    @field_validator("secret")
    @classmethod
    def _check_secret(cls, secret: SecretStr | None) -> SecretStr | None:
        text = secret.get_secret_value() if secret is not None else None
        if text is not None and (not text.strip() or len(text.encode()) < MIN_SECRET_BYTES):
            raise ValueError(
                f"it has {len(text.encode())} bytes or is blank: use {MIN_SECRET_BYTES} random bytes or more, such as"
                " `openssl rand -hex 32` makes"
            )
        return secret

    @model_validator(mode="after")
    def _check_shared_services(self) -> "Settings":
        if self.secret is None and (self.broker.url or self.pictures.url):
            raise ValueError("with a shared broker or pictures, every machine needs the same VISUAL_MEMORY_SECRET")
        if self.records.url is None and (self.store.url or self.broker.url):
            raise ValueError(
                "with a Qdrant server or a shared broker the records need a database that all machines share: set"
                " VISUAL_MEMORY_RECORDS__URL to a PostgreSQL database; SQLite is for one machine"
            )
        if self.intake.url is None and (self.store.url or self.broker.url):
            raise ValueError(
                "with a Qdrant server or a shared broker the intake needs a Redis that all machines share: set"
                " VISUAL_MEMORY_INTAKE__URL, preferably to a separate one"
            )
        if self.intake.url and self.intake.port:
            raise ValueError("intake.port is of the private server: leave it out, or VISUAL_MEMORY_INTAKE__URL")
        if self.store.url is None and (self.store.grpc or self.store.api_key):
            raise ValueError("store.grpc and store.api_key are of a server: set VISUAL_MEMORY_STORE__URL too")
        return self

    @model_validator(mode="after")
    def _check_limits(self) -> "Settings":
        if self.pictures.max_bytes > self.api.max_body_bytes:
            raise ValueError("pictures.max_bytes is over api.max_body_bytes: no such picture could be sent; lower it")
        if self.api.max_body_bytes > self.api.max_bytes_in_flight * 3 // 4:
            raise ValueError(
                "api.max_body_bytes is over three quarters of api.max_bytes_in_flight: raise that, or lower it"
            )
        mirror = LOCAL_FILE_URL.sub("", self.removals.mirror or "")
        if mirror and "://" not in mirror and Path(mirror).resolve().is_relative_to(self.data.resolve()):
            raise ValueError("removals.mirror is in the data folder: whatever destroys that destroys the mirror too")
        if self.pictures.decode_seconds >= self.worker.lease_seconds:
            raise ValueError(
                "pictures.decode_seconds must be under worker.lease_seconds, after which another worker tries the image"
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments take precedence over the environment, and the environment over the file."""
        config = os.environ.get("VISUAL_MEMORY_CONFIG")
        file = Path(config or "visual-memory.toml")
        if config and not file.exists():
            raise SettingsError(f"VISUAL_MEMORY_CONFIG names {config}, where there is no file")
        in_file = TomlConfigSettingsSource(settings_cls, toml_file=file).toml_data
        if "secret" in in_file and (mode := file.stat().st_mode & 0o777) & 0o077:
            raise SettingsError(
                f"{file} contains the secret and other users can read it (mode {mode:o}): restrict it to this user"
                " (mode 600)"
            )
        environment, in_file = use_new_names(env_settings(), in_file)
        return (
            init_settings,
            InitSettingsSource(settings_cls, environment),
            InitSettingsSource(settings_cls, in_file),
        )
