"""A background job: work of a worker that takes longer than a request, with its progress."""

from enum import StrEnum

from pydantic import AwareDatetime, BaseModel, ConfigDict


class JobKind(StrEnum):
    """The kind of work."""

    EVALUATION = "evaluation"
    JUDGEMENT = "judgement"
    COUNTERFACTUAL = "counterfactual"
    INFLUENCE = "influence"


class JobState(StrEnum):
    """The state of a job; ``collecting``: it waits for data from its caller."""

    COLLECTING = "collecting"
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class Job(BaseModel):
    """A job of one tenant.

    Attributes:
        requested_by: who requested it, as the API knows them.
        touched_at: the worker's last heartbeat.
        stage: the current stage, in a word or two.
        done: progress within the stage, out of `total`; 0 of 0 before it is known.
        attempts: how often a worker began the job.
        error: why it failed, in a sentence; else null.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    kind: JobKind
    state: JobState
    requested_by: str
    requested_at: AwareDatetime
    touched_at: AwareDatetime | None = None
    stage: str = ""
    done: int = 0
    total: int = 0
    attempts: int = 0
    error: str | None = None
