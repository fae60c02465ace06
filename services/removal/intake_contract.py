"""What removals need of the intake: the entries that wait to be accepted, and the dead letters.

The intake is a layer above and implements this protocol.
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
        image: as it would be if it had been accepted when the removal was requested. The content hash is empty if the
            picture is not known, and so is the id if none was given and it depends on the picture.
        given: names of the fields that the event gives, even as null; other fields of an existing image do not change.
    """

    image: StoredImage
    given: frozenset[str]


@dataclass(frozen=True)
class QueuedEntry:
    """An entry or a dead letter of the intake.

    Attributes:
        key: identifies it for `IntakeQueue.remove`.
        position: its position in the tenant's stream, which removals compare with their own.
        name: the name by which removals count it; empty if that is its position, as for all entries of the stream of
            images.
        images: the images of its event; none if the event cannot be parsed.
        text: all text of an event that cannot be parsed, else None.
        event_id: the id that its producer gave the event, if it can be parsed.
    """

    key: str
    position: str
    images: Sequence[QueuedImage] = ()
    text: str | None = None
    event_id: str = field(default="", compare=False)
    name: str = ""

    @property
    def image_id(self) -> str | None:
        """The first known image id of the entry, or None."""
        return next((each.image.image_id for each in self.images if each.image.image_id), None)


CoveredIds = Callable[[set[str]], set[str]]
"""Returns those of some image ids that a removal covers."""


class IntakeQueue(Protocol):
    """The intake, as far as removals use it. Each method raises `Unavailable` if the intake does not answer.

    The caller of `up_to`, `remove` and `remove_results` owns the lease of `intake_resource`.
    """

    def last_position(self, tenant: str) -> str:
        """The last id of a tenant's stream. Earlier entries have no greater id, later ones have."""

    def up_to(self, tenant: str, position: str) -> Iterator[Sequence[QueuedEntry]]:
        """The entries and dead letters at or before a position, in pages."""

    def remove(self, tenant: str, entries: Sequence[QueuedEntry]) -> None:
        """Remove entries from the intake, and report them as removed."""

    def remove_results(self, tenant: str, position: str, covered: CoveredIds) -> None:
        """Delete the results about covered images whose entries are at or before a position."""

    def revoke_producers(self, tenant: str) -> None:
        """Revoke the accounts of a tenant's producers, if this service manages them."""

    def delete_tenant(self, tenant: str) -> None:
        """Delete everything of a tenant."""

    def erase_removed(self) -> str:
        """Erase removed entries from the intake's files.

        Returns:
            what the operator of the intake must erase; empty if nothing.
        """


class NoIntake:
    """The intake of a service that receives everything over HTTP."""

    def last_position(self, _tenant: str) -> str:
        """Return the position of an empty stream."""
        return NO_POSITION

    def up_to(self, _tenant: str, _position: str) -> Iterator[Sequence[QueuedEntry]]:
        """Return no entries."""
        return iter(())

    def remove(self, _tenant: str, _entries: Sequence[QueuedEntry]) -> None:
        """Do nothing."""

    def remove_results(self, _tenant: str, _position: str, _covered: CoveredIds) -> None:
        """Do nothing."""

    def revoke_producers(self, _tenant: str) -> None:
        """Do nothing."""

    def delete_tenant(self, _tenant: str) -> None:
        """Do nothing."""

    def erase_removed(self) -> str:
        """Leave nothing to the operator."""
        return ""


def intake_resource(tenant: str) -> str:
    """The name of the lease under which a tenant's streams are read."""
    return f"intake:{tenant}"
