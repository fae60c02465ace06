"""An evaluation as a job: its request, its state, and its main figures."""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from visual_memory.schemas.background_job import Job
from visual_memory.schemas.classify_options import Prune, Vote
from visual_memory.schemas.evaluation_results import Evaluation, EvaluationOptions
from visual_memory.schemas.filter import Filter


class EvaluationRequest(EvaluationOptions):
    """What to evaluate."""

    itself: bool = Field(
        default=False,
        description="evaluate the memory on itself, leaving one out; else on labelled pictures, which are sent next",
        examples=[True],
    )
    filter: Filter = Field(
        default=Filter({}),
        description="only images that meet it are part of the evaluated memory",
        examples=[{"source": "camera-1"}],
    )


class EvaluationSummary(BaseModel):
    """The main figures of an evaluation; its report has the others."""

    model_config = ConfigDict(frozen=True)

    encoder: str = Field(description="the encoder whose vectors were compared", examples=["efficientnet-lite0"])
    queries: int = Field(description="the number of queries", examples=[200])
    known: int = Field(
        description=(
            "the number of these that are remembered themselves, by their ids, and so find themselves, which "
            "raises the accuracy"
        ),
        examples=[200],
    )
    images: int = Field(description="the number of images that voted", examples=[12])
    vote: Vote = Field(description="the vote with the best accuracy", examples=["rank"])
    k: int = Field(description="the number of neighbours that voted", examples=[50])
    accuracy: float = Field(description="of the requested vote, 0 to 1", examples=[0.93])
    votes: dict[Vote, float] = Field(
        description="accuracy of each vote at the same k without pruning, 0 to 1",
        examples=[{"rank": 0.93, "plurality": 0.91}],
    )
    ece: float | None = Field(
        description="expected calibration error of its shares, 0 to 1; null where there were too few answers",
        examples=[0.021],
    )
    calibrated_ece: float | None = Field(description="the same with a fitted temperature", examples=[0.012])
    probe: float | None = Field(
        description="accuracy of a linear classifier on the same vectors, 0 to 1; null where there were too few",
        examples=[0.94],
    )
    recall: dict[int, float] | None = Field(
        description="of the `balanced` search against the exact one, 0 to 1, by k; null where it was not measured",
        examples=[{50: 0.991}],
    )
    fast_recall: dict[int, float] | None = Field(
        default=None, description="the same of the `fast` one", examples=[{50: 0.953}]
    )

    @classmethod
    def of(cls, found: Evaluation, known: int) -> Self:
        """The main figures of an evaluation, with the number of queries that are remembered themselves."""
        calibration = found.calibration
        plain = [curve for curve in found.curves if curve.prune is Prune.NONE and curve.accuracy]
        return cls(
            encoder=found.encoder,
            queries=found.queries,
            known=known,
            images=found.images,
            vote=found.options.vote,
            k=found.k,
            accuracy=found.accuracy,
            votes={curve.vote: curve.accuracy[min(found.k, len(curve.accuracy)) - 1] for curve in plain},
            ece=calibration.before.ece if calibration else None,
            calibrated_ece=calibration.after.ece if calibration else None,
            probe=found.probe.accuracy if found.probe else None,
            recall=found.recall,
            fast_recall=found.fast_recall,
        )


class EvaluationJob(Job):
    """An evaluation of a tenant."""

    request: EvaluationRequest = Field(description="of the evaluation")
    pictures: int = Field(
        default=0,
        description="the number of labelled pictures that were sent for it; they are deleted when it is done",
        examples=[200],
    )
    summary: EvaluationSummary | None = Field(default=None, description="null until it is done")
