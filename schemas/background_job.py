"""A job: work that takes longer than an answer may, done by a worker, with progress."""

from enum import StrEnum

from pydantic import AwareDatetime, BaseModel, ConfigDict


class JobKind(StrEnum):
    """What is to be done."""

    EVALUATION = "evaluation"
    JUDGEMENT = "judgement"
    COUNTERFACTUAL = "counterfactual"
    INFLUENCE = "influence"


class JobState(StrEnum):
    """How far it is; ``collecting``: it waits for its caller to send all that it needs."""

    COLLECTING = "collecting"
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class Job(BaseModel):
    """A job of one tenant.

    Attributes:
        requested_by: who asked, as the API knows them.
        touched_at: when a worker last said that it works on it.
        stage: what is being done, in a word or two.
        done: how much of the stage is done, out of `total`; 0 of 0 before that is known.
        attempts: how often a worker began it.
        error: why it failed, a sentence; else null.
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
