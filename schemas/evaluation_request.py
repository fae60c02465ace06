"""An evaluation as a job: its request, its state, and its main figures."""

from typing import Self

from pydantic import BaseModel, ConfigDict

from visual_memory.schemas.background_job import Job
from visual_memory.schemas.classify_options import Prune, Vote
from visual_memory.schemas.evaluation_results import Evaluation, EvaluationOptions
from visual_memory.schemas.filter import Filter


class EvaluationRequest(EvaluationOptions):
    """What to evaluate.

    Attributes:
        itself: evaluate the memory on itself, leaving one out; else on labelled pictures, which are sent next.
        filter: only images that meet it are part of the evaluated memory.
    """

    itself: bool = False
    filter: Filter = Filter({})


class EvaluationSummary(BaseModel):
    """The main figures of an evaluation; its report has the others.

    Attributes:
        queries: the number of queries.
        known: the number of these that are remembered themselves, by their ids, and so find themselves, which raises
            the accuracy.
        images: the number of images that voted.
        k: the number of neighbours that voted.
        accuracy: of the requested vote, 0 to 1.
        votes: accuracy of each vote at the same k without pruning, 0 to 1.
        ece: expected calibration error of its shares, 0 to 1; null where there were too few answers.
        calibrated_ece: the same with a fitted temperature.
        probe: accuracy of a linear classifier on the same vectors, 0 to 1; null where there were too few.
        recall: of the ``balanced`` search against the exact one, 0 to 1, by k; null where it was not measured.
        fast_recall: the same of the ``fast`` one.
    """

    model_config = ConfigDict(frozen=True)

    encoder: str
    queries: int
    known: int
    images: int
    vote: Vote
    k: int
    accuracy: float
    votes: dict[Vote, float]
    ece: float | None
    calibrated_ece: float | None
    probe: float | None
    recall: dict[int, float] | None
    fast_recall: dict[int, float] | None = None

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
    """An evaluation of a tenant.

    Attributes:
        request: of the evaluation.
        pictures: the number of labelled pictures that were sent for it; they are deleted when it is done.
        summary: null until it is done.
    """

    request: EvaluationRequest
    pictures: int = 0
    summary: EvaluationSummary | None = None
