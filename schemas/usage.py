"""How much a tenant uses the service: what it holds now, and what was counted on each day."""

from datetime import date
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from visual_memory.schemas.image import State


class Measure(StrEnum):
    """What is counted for a tenant and a day, in UTC; the names are fields of `UsageDay`."""

    IMAGES_ACCEPTED = "images_accepted"
    PICTURE_BYTES_ACCEPTED = "picture_bytes_accepted"
    IMAGES_REMEMBERED = "images_remembered"
    IMAGES_REJECTED = "images_rejected"
    IMAGES_REMOVED = "images_removed"
    CLASSIFIED = "classified"


class UsageDay(BaseModel):
    """What was counted on a day."""

    model_config = ConfigDict(frozen=True)

    day: date = Field(description="the day, in UTC", examples=["2026-01-31"])
    images_accepted: int = Field(
        default=0, description="pictures and vectors that were accepted, again or for the first time", examples=[1200]
    )
    picture_bytes_accepted: int = Field(
        default=0, description="bytes of the files of the accepted pictures", examples=[96_000_000]
    )
    images_remembered: int = Field(default=0, description="images that got their vector", examples=[1198])
    images_rejected: int = Field(default=0, description="accepted images that could not be remembered", examples=[2])
    images_removed: int = Field(default=0, description="images that removals deleted", examples=[40])
    classified: int = Field(default=0, description="pictures and vectors that were classified", examples=[5300])


class Usage(BaseModel):
    """What a tenant holds now, and what was counted on each day."""

    model_config = ConfigDict(frozen=True)

    images: dict[State, int] = Field(
        description="the number of its images now, by state", examples=[{"waiting": 0, "remembered": 15_000}]
    )
    decisions: int = Field(description="the number of its stored decisions now", examples=[800])
    days: list[UsageDay] = Field(description="every day that was asked for, the earliest first")
