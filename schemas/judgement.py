"""A judgement of the memory: every remembered image classified by the others, leaving one out."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from visual_memory.schemas.background_job import Job
from visual_memory.schemas.compatibility import OpenEnum


class Suspicion(OpenEnum):
    """Why an image needs a review."""

    LABEL = "label"
    DUPLICATE = "duplicate"
    OUTLIER = "outlier"


class Suspect(BaseModel):
    """An image that needs a review."""

    model_config = ConfigDict(frozen=True)

    suspicion: Suspicion = Field(description="why it needs a review", examples=["label"])
    image_id: str = Field(description="the image's id", examples=["cat-17"])
    labels: list[str] = Field(description="the image's labels", examples=[["cat"]])
    score: float = Field(description="the strength of the suspicion, 0 to 1; suspects are ranked by it", examples=[0.9])
    reason: str = Field(description="a sentence", examples=["9 of 10 neighbours vote for dog"])
    suggestion: str = Field(
        description="the label that its neighbours vote for, or the image it duplicates", examples=["dog"]
    )


class ClassReport(BaseModel):
    """The accuracy of a class, leaving one out."""

    model_config = ConfigDict(frozen=True)

    label: str = Field(description="the label", examples=["cat"])
    images: int = Field(description="the number of remembered images with the label", examples=[12])
    accuracy: float = Field(
        description="the fraction of them for which the others vote the same label, 0 to 1", examples=[0.93]
    )
    confused_with: dict[str, int] = Field(
        description="labels that won instead, and how often; the most frequent first, at most 5", examples=[{"dog": 3}]
    )


class CalibrationSample(BaseModel):
    """Images of the memory with their neighbours, leaving one out; sampled evenly in the order of their ids.

    Attributes:
        labels: of each of the n images.
        similarities: of each image's neighbours, the nearest first; at most 100 each.
        neighbour_labels: of the same neighbours.
        neighbour_wrong: wrong votes of the same neighbours.
        neighbour_groups: of the same neighbours, a number, 0 or more, equal for copies of one content; empty in
            judgements from before copies shared a vote.
    """

    model_config = ConfigDict(frozen=True)

    labels: list[list[str]]
    similarities: list[list[float]]
    neighbour_labels: list[list[list[str]]]
    neighbour_wrong: list[list[int]]
    neighbour_groups: list[list[int]] = Field(default_factory=list)


class Judgement(BaseModel):
    """The results of one pass over a tenant's memory; a removal replaces it by one without the removed images.

    Attributes:
        id: new for each pass; ids sort by time.
        made_at: when the pass began to read the memory; later changes are not in it.
        encoder: the encoder whose vectors were compared.
        k: the number of neighbours that voted for `votes`.
        images: the number of judged images.
        votes: wrong and right votes of each image that gave any, as [wrong, right] by image id.
        classes: by label, the least accurate first.
        suspects: the most suspicious first, by kind; at most 1,000 of each.
        sample: calibrates novelty and prediction sets.
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
    """A judgement without its results for single images."""

    id: str = Field(description="the judgement's id", examples=["4f1c0a7b9d2e"])
    made_at: datetime = Field(description="when it began to read the memory", examples=["2026-01-31T12:00:00Z"])
    encoder: str = Field(description="the encoder whose vectors were compared", examples=["efficientnet-lite0"])
    k: int = Field(description="the number of neighbours that voted", examples=[50])
    images: int = Field(description="the number of judged images", examples=[12])
    classes: list[ClassReport] = Field(description="by label, the least accurate first")
    suspects: dict[Suspicion, int] = Field(
        description="the number of each kind", examples=[{"label": 4, "duplicate": 2, "outlier": 1}]
    )


class JudgementStatus(BaseModel):
    """The current judgement of a tenant's memory, and the latest job."""

    current: JudgementSummary | None = Field(default=None, description="the judgement in use; null where there is none")
    stale: bool = Field(
        default=False,
        description="whether the memory has changed since; the judgement stays in use until the next",
        examples=[False],
    )
    job: Job | None = Field(
        default=None, description="the latest requested judgement, with its progress; null where none was requested"
    )
