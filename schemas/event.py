"""An event of a tenant: something happened to images, a removal or a job."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from visual_memory.schemas.background_job import JobKind, JobState
from visual_memory.schemas.compatibility import OpenEnum

MAX_IMAGES = 50
"""An event names at most so many images; one about more has only their number."""


class EventType(OpenEnum):
    """What happened. ``resync``: events may have been lost, so read again what you show."""

    ACCEPTED = "accepted"
    REMEMBERED = "remembered"
    REJECTED = "rejected"
    HELD = "held"
    RELABELLED = "relabelled"
    MUTED = "muted"
    UNMUTED = "unmuted"
    AMENDED = "amended"
    REMOVED = "removed"
    JUDGED = "judged"
    JOB = "job"
    RESYNC = "resync"


def _is_none(value: Any) -> bool:
    return value is None


def _optional(description: str, example: object) -> Any:
    """A field that is left out where it does not apply."""
    return Field(
        default=None, exclude_if=_is_none, description=f"{description}; left out otherwise", examples=[example]
    )


class Event(BaseModel):
    """An event, without labels, file names and subjects."""

    model_config = ConfigDict(frozen=True)

    cursor: str = Field(
        description="resume after this event with `?cursor=` or `Last-Event-ID`", examples=["1767225600000-0"]
    )
    type: Annotated[
        EventType | str,
        Field(
            union_mode="left_to_right",
            description="what happened; later versions may add types, which clients must ignore",
            examples=[EventType.REMEMBERED],
        ),
    ]
    at: datetime = Field(description="when it happened, in UTC", examples=["2026-01-01T00:00:00Z"])
    count: int | None = _optional("the number of images, for events about images", 2)
    image_ids: list[str] | None = _optional(
        f"the ids of these images, where they are at most {MAX_IMAGES}; those that a removal has covered since are"
        " missing",
        ["cat-1", "cat-2"],
    )
    removal_id: str | None = _optional("the id of the removal, for `removed`", "5b1f3c1e-7a43-4c0b-9d5e-0f6a3a2b1c4d")
    change_id: str | None = _optional(
        "the id of the change, where it can be undone", "0d3c9d0e-53a1-4b8a-8a63-0a7f0d6a2f11"
    )
    encoder: str | None = _optional("the encoder of the vectors, for `remembered` and `held`", "efficientnet-lite0")
    job_id: str | None = _optional("the id of the job, for `job` and `judged`", "f2a4f3a8-9b0e-4a55-8f0b-2d8d3b6e7a90")
    job_kind: Annotated[JobKind | str | None, Field(union_mode="left_to_right")] = _optional(
        "the kind of the job, for `job`", JobKind.JUDGEMENT
    )
    job_state: Annotated[JobState | str | None, Field(union_mode="left_to_right")] = _optional(
        "the state of the job, for `job`", JobState.RUNNING
    )
    stage: str | None = _optional("the stage of a running job", "search")
    done: int | None = _optional("progress within the stage, out of `total`, for a running job", 100)
    total: int | None = _optional("the size of the stage of a running job; 0 before it is known", 1000)
