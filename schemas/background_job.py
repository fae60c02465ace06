"""A background job: work of a worker that takes longer than a request, with its progress."""

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from visual_memory.schemas.compatibility import OpenEnum


class JobKind(OpenEnum):
    """The kind of work."""

    EVALUATION = "evaluation"
    JUDGEMENT = "judgement"
    COUNTERFACTUAL = "counterfactual"
    INFLUENCE = "influence"


class JobState(OpenEnum):
    """The state of a job; ``collecting``: it waits for data from its caller; the last three are its end."""

    COLLECTING = "collecting"
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


OPEN = (JobState.WAITING, JobState.RUNNING)
"""A worker runs the job, or will."""
ENDED = (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


class Job(BaseModel):
    """A job of one tenant."""

    model_config = ConfigDict(frozen=True)

    id: str = Field(description="the id of the job", examples=["0b9c8f3e-6a55-4a8e-9d4c-2f3f5f0f6a10"])
    kind: JobKind = Field(description="the kind of work", examples=[JobKind.EVALUATION])
    state: JobState = Field(
        description="the state; `done`, `failed` and `cancelled` are final, and only `done` has a result",
        examples=[JobState.RUNNING],
    )
    requested_by: str = Field(
        description="who requested it: the name of the key, and its id", examples=["reports (key 5f0c2a9be310)"]
    )
    requested_at: AwareDatetime = Field(description="when it was requested", examples=["2026-05-03T10:15:00Z"])
    touched_at: AwareDatetime | None = Field(
        default=None,
        description="the worker's last heartbeat, or the moment of the end; null before a worker begins",
        examples=["2026-05-03T10:15:04Z"],
    )
    stage: str = Field(
        default="", description="the current stage, in a word or two; empty before it begins", examples=["voted"]
    )
    done: int = Field(default=0, description="how much of the stage is done, out of `total`", examples=[300])
    total: int = Field(default=0, description="the size of the stage; 0 before it is known", examples=[1200])
    attempts: int = Field(default=0, description="how often a worker began the job", examples=[1])
    error: str | None = Field(
        default=None, description="why it failed, in a sentence; else null", examples=["the memory has no images"]
    )
    cancelled_by: str | None = Field(
        default=None,
        description="who cancelled it: the name of the key, and its id; else null",
        examples=["reports (key 5f0c2a9be310)"],
    )
