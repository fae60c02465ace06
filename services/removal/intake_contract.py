"""What a removal sees of the intake: entries that wait to be accepted, and dead letters.

The intake lies above; so it says here what it is asked for, and fulfils it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from visual_memory.schemas.image import StoredImage

NO_POSITION = "0-0"
"""The last id of a stream that never had an entry."""


@dataclass(frozen=True)
class QueuedImage:
    """An image that is not accepted yet.

    Attributes:
        image: as it would be, had it been accepted when the removal was asked for. Where its picture is not known, its
            content hash is empty, and so is its id where none was said.
        said: the fields that were said of it, if only as null; what was not said stays as it is, where it is there.
    """

    image: StoredImage
    said: frozenset[str]


@dataclass(frozen=True)
class QueuedEntry:
    """What lies in the intake.

    Attributes:
        place: where it lies, for `IntakeQueue.take`.
        position: where it stands among the removals.
        name: by which it is counted; empty where that is its position, as of everything that came to the stream of
            images.
        images: of the event; none where it cannot be read.
        text: of an event that cannot be read all that it says.
        event_id: its producer's name for it, where that can be read.
    """

    place: str
    position: str
    images: Sequence[QueuedImage] = ()
    text: str | None = None
    event_id: str = field(default="", compare=False)
    name: str = ""

    @property
    def image_id(self) -> str | None:
        """The image id that it names first; None where it names none that is known."""
        return next((each.image.image_id for each in self.images if each.image.image_id), None)


CoveredIds = Callable[[set[str]], set[str]]
"""Those of some image ids that a removal covers."""


class IntakeQueue(Protocol):
    """The intake, as far as removals reach into it. Each method raises `Unavailable` where it does not answer.

    While `older`, `take` and `take_results` are called, its caller holds the tenant's lease, see `intake_resource`.
    """

    def position(self, tenant: str) -> str:
        """The last id of a tenant's stream: what was sent before has no greater one, what is sent later has."""

    def older(self, tenant: str, position: str) -> Iterator[Sequence[QueuedEntry]]:
        """All that stands at a position or before it, dead letters too, some at a time."""

    def take(self, tenant: str, entries: Sequence[QueuedEntry]) -> None:
        """Let entries leave the intake as removed; nothing is kept of them."""

    def take_results(self, tenant: str, position: str, covered: CoveredIds) -> None:
        """Delete what is said of covered images whose entries stand at a position or before it."""

    def close_to_senders(self, tenant: str) -> None:
        """Let nobody send to a tenant any more, as far as this service says who may."""

    def end(self, tenant: str) -> None:
        """Delete all that is a tenant's."""

    def erase(self) -> str:
        """Erase what has left from its files.

        Returns:
            what is left to its operator; empty where nothing is.
        """


class NoIntake:
    """Where nothing is sent but over HTTP."""

    def position(self, _tenant: str) -> str:
        """That of a stream that never had an entry."""
        return NO_POSITION

    def older(self, _tenant: str, _position: str) -> Iterator[Sequence[QueuedEntry]]:
        """None."""
        return iter(())

    def take(self, _tenant: str, _entries: Sequence[QueuedEntry]) -> None:
        """Nothing."""

    def take_results(self, _tenant: str, _position: str, _covered: CoveredIds) -> None:
        """Nothing."""

    def close_to_senders(self, _tenant: str) -> None:
        """Nobody does."""

    def end(self, _tenant: str) -> None:
        """Nothing."""

    def erase(self) -> str:
        """Nothing is left."""
        return ""


def intake_resource(tenant: str) -> str:
    """What the lease is about under which a tenant's streams are read."""
    return f"intake:{tenant}"
