"""Dead letters of the intake, as the API returns them."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field


class ShownDeadLetter(BaseModel):
    """A stream entry that could not be accepted."""

    model_config = ConfigDict(frozen=True)

    id: str = Field(description="the id of the dead letter", examples=["1764493200000-0"])
    at: datetime = Field(description="when it became a dead letter", examples=["2026-11-30T09:00:00Z"])
    entry: str = Field(description="the entry's id in Redis", examples=["1764493199000-3"])
    event_id: str | None = Field(
        default=None, description="the producer's id of the event; null where it could not be read", examples=["e-17"]
    )
    status: str = Field(
        description="`rejected`: a valid event that was refused; `dead`: no valid event, or one that could not be"
        " processed",
        examples=["rejected"],
    )
    reason: str = Field(description="why, in a sentence", examples=["labels: an image has at most 32"])
    deliveries: int = Field(description="how often the entry was delivered", examples=[1])
    inbox: str = Field(description="the stream: `intake` or `removals`", examples=["intake"])
    bytes: int = Field(description="the size of the original in bytes", examples=[412])
    event: str = Field(description="the original, as text", examples=['{"specversion": "1.0", "id": "e-17"}'])
