"""The memory judged by itself: every remembered image classified by the others, leaving it out."""

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from visual_memory.schemas.background_job import Job


class Suspicion(StrEnum):
    """Why an image deserves a look."""

    LABEL = "label"
    DUPLICATE = "duplicate"
    OUTLIER = "outlier"


class Suspect(BaseModel):
    """An image that deserves a look.

    Attributes:
        score: how strong the suspicion is, 0 to 1; suspects are ranked by it.
        reason: a sentence.
        suggestion: the label that its neighbours vote for, or the image it duplicates.
    """

    model_config = ConfigDict(frozen=True)

    suspicion: Suspicion
    image_id: str
    labels: list[str]
    score: float
    reason: str
    suggestion: str


class ClassReport(BaseModel):
    """How a class does, leaving one out.

    Attributes:
        images: how many remembered images carry the label.
        accuracy: the part of them for which the others vote the same label, 0 to 1.
        confused_with: other labels that they were taken for, and how often; the most frequent first, at most 5.
    """

    model_config = ConfigDict(frozen=True)

    label: str
    images: int
    accuracy: float
    confused_with: dict[str, int]


class CalibrationSample(BaseModel):
    """Images of the memory with their neighbours, leaving themselves out; drawn evenly by the order of their ids.

    Attributes:
        labels: of each image; n of them.
        similarities: of each image's neighbours, the nearest first; at most 100 each.
        neighbour_labels: of the same neighbours.
        neighbour_wrong: wrong votes of the same neighbours.
        neighbour_groups: of the same neighbours, a number, 0 or more, that those of one content have in common; empty
            in judgements that were made before these shared a vote.
    """

    model_config = ConfigDict(frozen=True)

    labels: list[list[str]]
    similarities: list[list[float]]
    neighbour_labels: list[list[list[str]]]
    neighbour_wrong: list[list[int]]
    neighbour_groups: list[list[int]] = Field(default_factory=list)


class Judgement(BaseModel):
    """What one pass over a tenant's memory found; a removal leaves one that never saw what it covered.

    Attributes:
        id: new with each pass; ids of later ones sort after it.
        made_at: when the pass began to read the memory; what was changed since is not in it.
        encoder: whose vectors were compared.
        k: how many neighbours voted for `votes`.
        images: how many images were judged.
        votes: wrong and right votes of each image that gave any, as [wrong, right] by image id.
        classes: by label, the least accurate first.
        suspects: the most suspicious first, by kind; at most 1,000 of each.
        sample: what novelty and prediction sets are calibrated on.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    made_at: datetime
    encoder: str
    k: int
    images: int
    votes: dict[str, tuple[int, int]]
    classes: list[ClassReport]
    suspects: list[Suspect]
    sample: CalibrationSample


class JudgementSummary(BaseModel):
    """A judgement without what it says of single images.

    Attributes:
        suspects: how many there are of each kind.
    """

    id: str
    made_at: datetime
    encoder: str
    k: int
    images: int
    classes: list[ClassReport]
    suspects: dict[Suspicion, int]


class JudgementStatus(BaseModel):
    """Where a tenant's memory stands.

    Attributes:
        current: the judgement that counts; null where none does.
        stale: whether the memory was changed since; it counts until the next all the same.
        job: the latest that was asked for, with its progress; null where none was.
    """

    current: JudgementSummary | None = None
    stale: bool = False
    job: Job | None = None
