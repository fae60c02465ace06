"""What images that are sent are to what is there: new, the same with other labels or fields, or just the same."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from schemas.image import State, StoredImage

SENT_FIELDS = ("labels", "source", "subject", "captured_at", "expires_at", "metadata")


@dataclass(frozen=True)
class Plan:
    """What is to be done, so that what was sent is there, and nothing is done twice.

    Attributes:
        new: images to put: nothing is there under their ids, or other content, or it was rejected.
        amended: images that are there, each with what it becomes.
        held: what is there of them, by image id.
        states: the state of each image once that is done, by its id.
    """

    new: tuple[StoredImage, ...]
    amended: tuple[tuple[StoredImage, StoredImage], ...] = ()
    held: Mapping[str, StoredImage] = field(default_factory=dict)
    states: Mapping[str, State] = field(default_factory=dict)

    @property
    def written(self) -> tuple[StoredImage, ...]:
        """The images that this writes, as they are afterwards."""
        return (*self.new, *(changed for _, changed in self.amended))

    def undone(self, ids: Collection[str]) -> "Plan":
        """What takes the amendments of these images back; the new ones are listed, to be deleted."""
        new = tuple(image for image in self.new if image.image_id in ids)
        back = tuple((changed, held) for held, changed in self.amended if held.image_id in ids)
        return Plan(new, back)


def planned(sent: Mapping[str, StoredImage], held: Mapping[str, StoredImage], moment: datetime) -> Plan:
    """Compare what was sent with what is there.

    Args:
        sent: images of one tenant, by their ids.
        held: what is there under these ids, and maybe others.
        moment: from when on other labels count.
    """
    known = {image_id: held[image_id] for image_id, image in sent.items() if is_known(image, held.get(image_id))}
    changed = {image_id: there.changed(_said(sent[image_id]), moment) for image_id, there in known.items()}
    return Plan(
        new=tuple(image for image_id, image in sent.items() if image_id not in known),
        amended=tuple((there, changed[image_id]) for image_id, there in known.items() if changed[image_id] != there),
        held=held,
        states={image_id: known.get(image_id, image).state for image_id, image in sent.items()},
    )


def is_known(sent: StoredImage, held: StoredImage | None) -> bool:
    """Whether an image with this content is there; one that was rejected is tried anew."""
    return held is not None and held.content_hash == sent.content_hash and held.state is not State.REJECTED


def _said(image: StoredImage) -> dict[str, object]:
    return {name: getattr(image, name) for name in SENT_FIELDS}
