"""Dead letters of the intake, as the API returns them."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict


class ShownDeadLetter(BaseModel):
    """A stream entry that could not be accepted.

    Attributes:
        id: of the dead letter.
        at: when it became a dead letter.
        entry: the entry's id in Redis.
        event_id: the producer's id of the event; null where it could not be read.
        status: ``rejected``: a valid event that was refused; ``dead``: no valid event, or one that could not be
            processed.
        reason: in a sentence.
        deliveries: how often the entry was delivered.
        inbox: the stream: ``intake`` or ``removals``.
        bytes: the size of the original.
        event: the original, as text.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    at: datetime
    entry: str
    event_id: str | None = None
    status: str
    reason: str
    deliveries: int
    inbox: str
    bytes: int
    event: str


class DeadLetterPage(BaseModel):
    """One page of dead letters, the oldest first; send ``cursor`` for the next page; it is null on the last."""

    letters: list[ShownDeadLetter]
    cursor: str | None = None
