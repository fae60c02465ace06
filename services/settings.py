"""Every setting, by concern: from the environment (``VISUAL_MEMORY_STORE__URL``) or ``visual-memory.toml``.

The environment wins over the file. The file is looked for in the working directory, or where ``VISUAL_MEMORY_CONFIG``
says. An unknown name, a bad value or a combination that cannot work stops the start with a sentence.
"""

import logging
import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SecretStr,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from visual_memory.schemas.api_key import Tenant
from visual_memory.schemas.classify_options import Prune
from visual_memory.schemas.encoder import PoolingName
from visual_memory.schemas.field_types import FieldType
from visual_memory.schemas.labels import LabelCheck
from visual_memory.schemas.text_rules import normalised

PREFIX = "VISUAL_MEMORY_"
NOT_SETTINGS = {"VISUAL_MEMORY_CONFIG", "VISUAL_MEMORY_URL", "VISUAL_MEMORY_KEY", "VISUAL_MEMORY_WATCH_URL"}
"""Where the file is, and where the command line finds the API and what opens it: read elsewhere."""
HOST = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*(:[1-9][0-9]{0,4})?$"
"""A host name in lower case (IDNA), with a port where it is not the usual one."""

ON_THIS_MACHINE = re.compile(r"^(file|local):(//)?")
"""How fsspec's URLs of files begin."""

GEMINI = "https://generativelanguage.googleapis.com/v1beta/openai"
"""Where Google's models speak OpenAI's protocol."""

LEAST_SECRET_BYTES = 32
"""Shorter secrets can be guessed: whoever guesses one signs receipts and messages."""

MOST_AT_ONCE = 4096
"""What nobody may send more of in one request, whatever the settings say."""


log = logging.getLogger(__name__)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ApiSettings(_Section):
    """The HTTP service."""

    host: Annotated[str, Field(description="address to listen on")] = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535, description="port to listen on")] = 8700
    max_body_bytes: Annotated[int, Field(ge=1024, description="largest request")] = 64 * 2**20
    body_seconds: Annotated[
        int, Field(ge=1, description="longest time that a request's body may take, and 1 s more for each 256 KiB")
    ] = 60
    max_held_bytes: Annotated[
        int,
        Field(
            ge=1024,
            description="bytes of requests and long answers held at once; a tenant alone may fill three quarters",
        ),
    ] = 256 * 2**20
    max_requests: Annotated[
        int,
        Field(
            ge=2,
            le=1000,
            description="requests worked on at once, a tenant's up to three quarters; more wait, each tenant in turn",
        ),
    ] = 32
    max_images: Annotated[int, Field(ge=1, le=MOST_AT_ONCE, description="most pictures or vectors in one request")] = (
        256
    )
    metrics_port: Annotated[
        int | None, Field(ge=1, le=65535, description="port of 127.0.0.1 for all tenants' /metrics; unset: none")
    ] = None


class BrokerSettings(_Section):
    """Redis, which carries messages to the workers."""

    url: Annotated[
        str | None,
        Field(description="redis://, rediss:// or redis+socket://; unset: a private server in the data folder"),
    ] = None
    prefix: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z0-9_.-]{1,64}$",
            description="what the names of all keys in Redis begin with, before a digest of collection and secret",
        ),
    ] = "visual-memory"


class StoreSettings(_Section):
    """Where the vectors live."""

    url: Annotated[
        str | None, Field(description="address of a Qdrant server; unset: Qdrant Edge in the data folder")
    ] = None
    api_key: Annotated[SecretStr | None, Field(description="the server's API key")] = None
    grpc: Annotated[bool, Field(description="speak gRPC to the server instead of HTTP")] = False
    grpc_port: Annotated[int, Field(ge=1, le=65535, description="the server's gRPC port")] = 6334
    collection: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,200}$", description="name of the collection")] = (
        "visual-memory"
    )
    shards: Annotated[int, Field(ge=1, description="shards of a new collection on a server")] = 1
    replicas: Annotated[int, Field(ge=1, description="replicas of each shard on a server")] = 1
    timeout: Annotated[
        int, Field(ge=1, description="seconds to wait for the store where much is asked of it: searches, removals")
    ] = 30
    request_timeout: Annotated[
        int, Field(ge=1, description="seconds to wait for the store otherwise, before a request is answered 503")
    ] = 2
    min_free_bytes: Annotated[
        int,
        Field(ge=64 * 2**20, description="bytes kept free on this machine's disk: with less, only removals go on"),
    ] = 256 * 2**20


class RecordsSettings(_Section):
    """Where keys, removals, jobs and all else lie that is no image."""

    url: Annotated[
        SecretStr | None,
        Field(description="postgresql://USER:PASSWORD@HOST/DATABASE; unset: SQLite in the data folder"),
    ] = None

    @model_validator(mode="after")
    def _is_of_postgresql(self) -> "RecordsSettings":
        if self.url is not None and not self.url.get_secret_value().startswith(("postgresql://", "postgres://")):
            raise ValueError("records.url names a PostgreSQL database: postgresql://USER:PASSWORD@HOST/DATABASE")
        return self


class RemovalSettings(_Section):
    """What happens around removals."""

    mirror: Annotated[
        str | None,
        Field(
            description="any fsspec URL, such as a folder of another disk or s3://bucket/folder: what was removed is"
            " known there before its receipt is given, and a restore needs it; unset: none"
        ),
    ] = None


class PictureSettings(_Section):
    """Where the pictures live, and which are taken."""

    url: Annotated[
        str | None, Field(description="any fsspec URL, such as s3://bucket/folder; unset: a folder in the data folder")
    ] = None
    max_bytes: Annotated[int, Field(ge=1024, description="largest picture, in bytes")] = 20 * 2**20
    max_pixels: Annotated[int, Field(ge=1, le=178_956_970, description="largest picture, width times height")] = (
        50_000_000
    )
    decode_seconds: Annotated[int, Field(ge=1, description="longest time that decoding one picture may take")] = 10
    url_hosts: Annotated[
        list[Annotated[str, Field(pattern=HOST, max_length=260)]],
        Field(
            description="hosts that pictures may be fetched from by https URL, each with :port if not 443; none: off"
        ),
    ] = Field(default_factory=list)


class EncoderSettings(_Section):
    """What turns a picture into a vector."""

    name: Annotated[
        str | None,
        Field(
            min_length=1,
            description="efficientnet-lite0 (built in), a model's hub name or folder, or an encoder of the memory by"
            " its name; unset: the memory's own, of a new one efficientnet-lite0",
        ),
    ] = None
    device: Annotated[str, Field(pattern=r"^(cpu|cuda(:\d+)?)$", description="cpu, cuda or cuda:N")] = "cpu"
    pooling: Annotated[
        PoolingName,
        Field(description="how a transformer's tokens become one vector; auto: as its family is meant to be used"),
    ] = "auto"
    precision: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"],
        Field(description="of the encoder's numbers; auto: bfloat16 where processor and encoder are fit for it"),
    ] = "auto"
    batch_size: Annotated[
        int, Field(ge=0, le=1024, description="most pictures encoded at once; 0: 8 on a CPU, 64 on a GPU")
    ] = 0
    threads: Annotated[int, Field(ge=0, description="batches encoded side by side on a CPU; 0: one per core")] = 0
    upgrade: Annotated[
        Literal["manual", "auto"],
        Field(
            description="how a memory comes to the encoder that is named, or to today's preprocessing: manual, by"
            " `visual-memory encoder`, or auto, by itself"
        ),
    ] = "manual"


class DecisionSettings(_Section):
    """Decisions that callers ask to have kept."""

    keep: Annotated[int, Field(ge=1, description="stored decisions kept of each tenant; the oldest go")] = 10_000
    keep_bytes: Annotated[
        int, Field(ge=2**20, description="bytes of stored decisions kept of each tenant; the oldest go")
    ] = 256 * 2**20


class WorkerSettings(_Section):
    """The Celery workers."""

    concurrency: Annotated[int, Field(ge=1, le=256, description="messages that one worker handles at once")] = 4
    max_attempts: Annotated[int, Field(ge=1, description="how often an image is tried before it is rejected")] = 3
    sweep_seconds: Annotated[int, Field(ge=1, description="how often it is looked for what was left behind")] = 5
    compact_seconds: Annotated[
        int,
        Field(
            ge=60,
            description="how long what was removed may wait until its bytes are erased from the disk, where that"
            " rewrites over 1 GiB; else it is done within 10 minutes",
        ),
    ] = 86_400
    overdue_seconds: Annotated[
        int,
        Field(ge=1, description="how long an image waits, or is left to whoever began it, until it is enqueued again"),
    ] = 20
    metrics_port: Annotated[
        int | None, Field(ge=1, le=65535, description="port of 127.0.0.1 for a worker's own /metrics; unset: none")
    ] = None
    jobs_metrics_port: Annotated[int | None, Field(ge=1, le=65535, description="the same for a worker of jobs")] = None


class RerankSettings(_Section):
    """The vision-language model that may decide where the vote is close."""

    url: Annotated[
        str | None,
        Field(
            pattern=r"^https?://[^\s/?#]+(/[^\s/?#]+)*/?$",
            description="base of an API of OpenAI's protocol, such as http://localhost:11434/v1; unset: no model",
        ),
    ] = None
    model: Annotated[str | None, Field(min_length=1, description="name of the model")] = None
    api_key: Annotated[SecretStr | None, Field(description="the API's key")] = None
    parameters: Annotated[
        dict[str, JsonValue],
        Field(description='further parameters, as the API names them: {"temperature": 1}, where its 0 is refused'),
    ] = Field(default_factory=dict)
    tenants: Annotated[
        list[Tenant], Field(description="tenants whose pictures may be sent to the model; empty: nobody's")
    ] = Field(default_factory=list)
    margin: Annotated[float, Field(gt=0, le=1, description="it is asked where the vote's margin is below this")] = 0.2
    neighbours: Annotated[int, Field(ge=1, le=50, description="most neighbours whose pictures go with a question")] = 10
    side: Annotated[int, Field(ge=32, le=2048, description="longest side of a picture that is sent, in pixels")] = 384
    timeout: Annotated[
        float, Field(gt=0, le=60, description="seconds after which the votes of a request stand where no answer came")
    ] = 10
    calls_per_day: Annotated[int, Field(ge=1, description="most questions of one key in a day")] = 1000
    cache_entries: Annotated[int, Field(ge=0, description="answers that a process keeps at hand; 0: none")] = 10_000

    @model_validator(mode="before")
    @classmethod
    def _speaks_one_protocol(cls, given: Any) -> Any:
        """The setting of versions with two protocols; OpenAI's is still taken, with a warning."""
        if not isinstance(given, dict) or "provider" not in given:
            return given
        provider, rest = given["provider"], {name: value for name, value in given.items() if name != "provider"}
        if provider != "openai":
            raise ValueError(
                "rerank.provider is gone, for every model is spoken to in OpenAI's protocol: leave it out and set"
                f" VISUAL_MEMORY_RERANK__URL, for Gemini to {GEMINI}"
            )
        log.warning("rerank.provider does nothing any more: leave it out, the url and the model suffice")
        return rest

    @model_validator(mode="after")
    def _names_what_it_needs(self) -> "RerankSettings":
        if (self.url is None) != (self.model is None):
            raise ValueError("a model needs both: set VISUAL_MEMORY_RERANK__URL and VISUAL_MEMORY_RERANK__MODEL")
        if self.api_key and self.url is None:
            raise ValueError("api_key is of a model: set VISUAL_MEMORY_RERANK__URL and VISUAL_MEMORY_RERANK__MODEL too")
        return self


class CurateSettings(_Section):
    """What a memory learns from judging itself."""

    seconds: Annotated[
        int,
        Field(
            ge=0,
            description="how often memories that were changed, and whose judgements are used, are judged; 0: only when"
            " asked to",
        ),
    ] = 600
    most_images: Annotated[
        int, Field(ge=1, description="larger memories are not judged: a worker holds all their vectors at once")
    ] = 100_000
    cache_bytes: Annotated[
        int, Field(ge=0, description="vectors that a worker keeps in memory from one judgement to the next, in bytes")
    ] = 2**30
    k: Annotated[int, Field(ge=1, le=100, description="how many neighbours vote on each image")] = 10
    prune: Annotated[Prune, Field(description="how classifications that do not say are pruned: none, soft or hard")] = (
        Prune.NONE
    )
    gate: Annotated[
        LabelCheck,
        Field(description="new pictures whose neighbours object to their label: off, warn or hold (mute them)"),
    ] = LabelCheck.OFF
    gate_share: Annotated[
        float, Field(ge=0.5, le=1, description="share of the neighbours' vote for another label that is an objection")
    ] = 0.9


class IntakeSettings(_Section):
    """The streams that producers send to without HTTP, in a Redis of their own: a full one stops nothing else."""

    url: Annotated[
        str | None,
        Field(
            pattern=r"^(rediss?|unix)://",
            description="redis://USER:PASSWORD@HOST or rediss://..., with appendonly yes and noeviction; unset: a"
            " second private server in the data folder",
        ),
    ] = None
    prefix: Annotated[
        str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="what the names of all its keys begin with")
    ] = "visual-memory"
    port: Annotated[
        int | None,
        Field(ge=1, le=65535, description="port that the private one listens on beside its unix socket; unset: none"),
    ] = None
    host: Annotated[str, Field(description="address of that port")] = "127.0.0.1"
    max_bytes: Annotated[
        int, Field(ge=16 * 2**20, description="bytes that the private one holds at most; then it refuses entries")
    ] = 2**30
    references: Annotated[
        dict[Literal["*"] | Tenant, list[Annotated[str, Field(min_length=1)]]],
        Field(
            description='what entries may name instead of bringing a picture, by tenant, "*" for every other: URLs that'
            ' theirs must begin with: {"shop": ["s3://bucket/shop/"]}; none: off'
        ),
    ] = Field(default_factory=dict)
    celery: Annotated[
        list[Literal["*"] | Tenant],
        Field(
            description='tenants that messages of Celery may name, "*" for all: the broker does not tell who sent them,'
            " so where others write to it, name those tenants that they may send to"
        ),
    ] = Field(default=["*"])
    results: Annotated[int, Field(ge=100, description="results kept of each tenant, about; the oldest go")] = 10_000
    metrics_port: Annotated[
        int | None, Field(ge=1, le=65535, description="port of 127.0.0.1 for the reader's own /metrics; unset: none")
    ] = None


class Settings(BaseSettings):
    """All settings. Frozen: what was valid at the start stays so."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
        env_ignore_empty=True,
    )

    data: Annotated[Path, Field(description="folder of everything that is kept on this machine")] = Path(
        "visual-memory-data"
    )
    secret: Annotated[
        SecretStr | None,
        Field(
            description="what receipts are signed with, 32 random bytes or more; unset: a file in the data folder",
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
        Field(description='longest life of images by source, "*" for every other: {"camera-1": "P30D"} (ISO 8601)'),
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
        """Where things of a kind are kept, such as pictures: a folder in the data folder, or at the pictures' URL."""
        base = self.pictures.url or str(self.data.absolute())
        return f"{base.rstrip('/')}/{kind}"

    @model_validator(mode="after")
    def _knows_every_name(self) -> "Settings":
        for name in os.environ:
            first = name.removeprefix(PREFIX).split("__")[0].lower()
            if name.startswith(PREFIX) and name not in NOT_SETTINGS and first not in type(self).model_fields:
                raise ValueError(f"{name} in the environment is no setting; docs/settings.md lists them all")
        return self

    @field_validator("secret")
    @classmethod
    def _is_secret(cls, secret: SecretStr | None) -> SecretStr | None:
        text = secret.get_secret_value() if secret is not None else None
        if text is not None and (not text.strip() or len(text.encode()) < LEAST_SECRET_BYTES):
            raise ValueError(
                f"it has {len(text.encode())} bytes or is blank: give it {LEAST_SECRET_BYTES} random bytes or more,"
                " such as `openssl rand -hex 32` makes"
            )
        return secret

    @model_validator(mode="after")
    def _can_work_together(self) -> "Settings":
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
                " VISUAL_MEMORY_INTAKE__URL, best to one of its own"
            )
        if self.intake.url and self.intake.port:
            raise ValueError("intake.port is of the private server: leave it out, or VISUAL_MEMORY_INTAKE__URL")
        if self.store.url is None and (self.store.grpc or self.store.api_key):
            raise ValueError("store.grpc and store.api_key are of a server: set VISUAL_MEMORY_STORE__URL too")
        if self.pictures.max_bytes > self.api.max_body_bytes:
            raise ValueError("pictures.max_bytes is over api.max_body_bytes: no such picture could be sent; lower it")
        if self.api.max_body_bytes > self.api.max_held_bytes * 3 // 4:
            raise ValueError("api.max_body_bytes is over three quarters of api.max_held_bytes: raise that, or lower it")
        mirror = ON_THIS_MACHINE.sub("", self.removals.mirror or "")
        if mirror and "://" not in mirror and Path(mirror).resolve().is_relative_to(self.data.resolve()):
            raise ValueError("removals.mirror is in the data folder: what loses that would lose the mirror too")
        if self.pictures.decode_seconds >= self.worker.overdue_seconds:
            raise ValueError("pictures.decode_seconds must be under worker.overdue_seconds, when others try it")
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
        """Arguments win over the environment, the environment over the file."""
        named = os.environ.get("VISUAL_MEMORY_CONFIG")
        file = Path(named or "visual-memory.toml")
        if named and not file.exists():
            raise SettingsError(f"VISUAL_MEMORY_CONFIG names {named}, where there is no file")
        settings_of_file = TomlConfigSettingsSource(settings_cls, toml_file=file)
        if "secret" in settings_of_file.toml_data and (mode := file.stat().st_mode & 0o777) & 0o077:
            raise SettingsError(
                f"{file} holds the secret and is open to other users (mode {mode:o}): make it this user's alone"
                " (mode 600)"
            )
        return init_settings, env_settings, settings_of_file


def table() -> str:
    """Every setting as a row of a Markdown table: variable, default, meaning."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, _Section):
            rows += [_row(f"{name}__{inner}", each) for inner, each in section.model_fields.items()]
        else:
            rows.append(_row(name, field))
    return "\n".join(rows)


def _row(name: str, field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=True, validated_data={})
    shown = "" if default in (None, {}, []) else f"`{str(default).lower() if isinstance(default, bool) else default}`"
    return f"| `{PREFIX}{name.upper()}` | {shown} | {field.description} |"
