"""A recorded change of stored images, which can be undone, and the preview of one."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from visual_memory.schemas.compatibility import OpenEnum
from visual_memory.schemas.image import State
from visual_memory.schemas.removal import SampleImage

MAX_SAMPLES = 20
MAX_LABELS_COUNTED = 1000


class ChangeAction(OpenEnum):
    """What was done to the images; ``undo`` took back an earlier change."""

    RELABEL = "relabel"
    MUTE = "mute"
    UNMUTE = "unmute"
    AMEND = "amend"
    UNDO = "undo"


class ChangeState(OpenEnum):
    """``interrupted``: an error or a crash ended it, and `images` says how many images it has changed before."""

    RUNNING = "running"
    DONE = "done"
    INTERRUPTED = "interrupted"


class Change(BaseModel):
    """A change of stored images. A removal is none: it cannot be undone."""

    model_config = ConfigDict(frozen=True)

    id: str = Field(description="sorts by when the change was made", examples=["01936b3e-7a1c-7c3a-9d1e-2f4b6a8c0e12"])
    action: ChangeAction = Field(description="what was done", examples=["relabel"])
    state: ChangeState = Field(description="whether it is complete", examples=["done"])
    images: int = Field(description="the number of images that were changed", examples=[12])
    skipped: int = Field(
        description=(
            "the number of images that were left as they are: others changed them at the same time; or, of an undo,"
            " they were changed again since, have another picture, or are gone"
        ),
        examples=[0],
    )
    by: str = Field(description="the name of the key that made it", examples=["ann (key 3f2a9c1d)"])
    made_at: datetime = Field(description="when it began", examples=["2026-03-01T12:00:00Z"])
    undoes: str | None = Field(
        default=None,
        description="of an undo: the id of the change that it took back",
        examples=["01936b3d-11aa-7f00-8a52-90c1d2e3f405"],
    )
    undone_at: datetime | None = Field(
        default=None, description="when it was undone; null: it was not", examples=["2026-03-01T12:05:00Z"]
    )
    undone_by: str | None = Field(
        default=None, description="the name of the key that undid it", examples=["bob (key 77aa01b2)"]
    )


class ChangePreview(BaseModel):
    """What a change would do; it was not made."""

    model_config = ConfigDict(frozen=True)

    action: ChangeAction = Field(description="what would be done", examples=["relabel"])
    images: int = Field(description="the number of images that would be changed", examples=[12])
    unchanged: int = Field(
        description="the number of covered images that would stay as they are, because nothing would differ",
        examples=[3],
    )
    is_estimate: bool = Field(
        description=(
            "whether `images` and `unchanged` were estimated from 10,000 of the covered images, as for a relabel or an"
            " amendment of more"
        ),
        examples=[False],
    )
    missing: int = Field(description="the number of given image ids without an image", examples=[0])
    by_label: dict[str, int] = Field(
        description=(
            "the number of covered images by label, the most frequent first, at most 1,000 labels; empty for a key"
            " without the scope `read`"
        ),
        examples=[{"animal/cat": 15}],
    )
    by_state: dict[State, int] = Field(
        description="the number of covered images by state", examples=[{"remembered": 14, "muted": 1}]
    )
    samples: list[SampleImage] = Field(
        description="covered images, at most 20; empty for a key without the scope `read`",
        examples=[[{"image_id": "cat-1", "file_name": "cat-1.jpg", "labels": ["animal/cat"], "state": "remembered"}]],
    )
