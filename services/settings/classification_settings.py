"""Settings of stored decisions, re-ranking and curation."""

import logging
from typing import Annotated, Any

from pydantic import Field, JsonValue, SecretStr, model_validator

from visual_memory.schemas.api_key import Tenant
from visual_memory.schemas.classify_options import Prune
from visual_memory.schemas.labels import LabelCheck
from visual_memory.services.settings.settings_section import SettingsSection

GEMINI_URL = "https://generativelanguage.googleapis.com/v1beta/openai"
"""Google's endpoint with OpenAI's protocol."""

log = logging.getLogger(__name__)


class DecisionSettings(SettingsSection):
    """Decisions that callers ask to store."""

    keep: Annotated[int, Field(ge=1, description="stored decisions of each tenant; the oldest are deleted")] = 10_000
    keep_bytes: Annotated[
        int, Field(ge=2**20, description="bytes of stored decisions of each tenant; the oldest are deleted")
    ] = 256 * 2**20


class RerankSettings(SettingsSection):
    """The vision-language model that may decide close votes."""

    url: Annotated[
        str | None,
        Field(
            pattern=r"^https?://[^\s/?#]+(/[^\s/?#]+)*/?$",
            description="base URL of an API with OpenAI's protocol, such as http://localhost:11434/v1; unset: no model",
        ),
    ] = None
    model: Annotated[str | None, Field(min_length=1, description="name of the model")] = None
    api_key: Annotated[SecretStr | None, Field(description="the API's key")] = None
    parameters: Annotated[
        dict[str, JsonValue],
        Field(description='further request parameters of the API, such as {"temperature": 1} if 0 is refused'),
    ] = Field(default_factory=dict)
    tenants: Annotated[
        list[Tenant], Field(description="tenants whose pictures may be sent to the model; empty: none")
    ] = Field(default_factory=list)
    margin: Annotated[float, Field(gt=0, le=1, description="the model is asked if the vote's margin is below this")] = (
        0.2
    )
    neighbours: Annotated[int, Field(ge=1, le=50, description="most neighbours whose pictures are sent")] = 10
    side: Annotated[int, Field(ge=32, le=2048, description="longest side of a picture that is sent, in pixels")] = 384
    timeout: Annotated[
        float, Field(gt=0, le=60, description="seconds to wait for all answers of a request; then the vote decides")
    ] = 10
    calls_per_day: Annotated[int, Field(ge=1, description="most questions of one key in a day")] = 1000
    cache_entries: Annotated[int, Field(ge=0, description="answers cached by each process; 0: none")] = 10_000

    @model_validator(mode="before")
    @classmethod
    def _drop_provider(cls, given: Any) -> Any:
        """Accept OpenAI's protocol in the former setting `provider`, with a warning."""
        if not isinstance(given, dict) or "provider" not in given:
            return given
        provider, rest = given["provider"], {name: value for name, value in given.items() if name != "provider"}
        if provider != "openai":
            raise ValueError(
                "rerank.provider was removed, every model is reached with OpenAI's protocol: leave it out and set"
                f" VISUAL_MEMORY_RERANK__URL, for Gemini to {GEMINI_URL}"
            )
        log.warning("rerank.provider has no effect any more: leave it out, the url and the model suffice")
        return rest

    @model_validator(mode="after")
    def _check_complete(self) -> "RerankSettings":
        if (self.url is None) != (self.model is None):
            raise ValueError("a model needs both: set VISUAL_MEMORY_RERANK__URL and VISUAL_MEMORY_RERANK__MODEL")
        if self.api_key and self.url is None:
            raise ValueError("api_key is of a model: set VISUAL_MEMORY_RERANK__URL and VISUAL_MEMORY_RERANK__MODEL too")
        return self


class CurateSettings(SettingsSection):
    """Judgements of the memory by itself, and what they are used for."""

    judge_seconds: Annotated[
        int,
        Field(
            ge=0,
            description="seconds between judgements of memories that changed and whose judgements are used; 0: only on"
            " request",
        ),
    ] = 600
    max_images: Annotated[
        int, Field(ge=1, description="larger memories are not judged: a worker loads all their vectors")
    ] = 100_000
    cache_bytes: Annotated[
        int, Field(ge=0, description="bytes of vectors that a worker caches between two judgements")
    ] = 2**30
    k: Annotated[int, Field(ge=1, le=100, description="how many neighbours vote on each image")] = 10
    keep_changes: Annotated[
        int, Field(ge=1, description="changes of each tenant that can be undone; the oldest are forgotten")
    ] = 10_000
    keep_changes_days: Annotated[int, Field(ge=1, description="days for which a change can be undone")] = 90
    prune: Annotated[
        Prune, Field(description="pruning of classifications that do not choose one: none, soft or hard")
    ] = Prune.NONE
    label_check: Annotated[
        LabelCheck,
        Field(description="new pictures whose neighbours vote for another label: off, warn or hold (mute them)"),
    ] = LabelCheck.OFF
    label_check_share: Annotated[
        float, Field(ge=0.5, le=1, description="share of the neighbours' vote for another label that is a conflict")
    ] = 0.9
