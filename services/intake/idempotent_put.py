"""What images that are sent are to what is there: new, the same with other labels or fields, or just the same."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from schemas.image import State, StoredImage
from services.memory.payload import has_picture

SENT_FIELDS = ("labels", "source", "subject", "captured_at", "expires_at", "metadata")


@dataclass(frozen=True)
class Plan:
    """What is to be done, so that what was sent is there, and nothing is done twice.

    Attributes:
        new: images to put: nothing is there under their ids, or other content, or it was rejected.
        amended: images that are there, each with what it becomes.
        beside: of these, as they are, the ones that came as vectors of another encoder than what was sent: they get the
            vector that was sent beside their own.
        held: what is there of them, by image id.
        states: the state of each image once that is done, by its id.
    """

    new: tuple[StoredImage, ...]
    amended: tuple[tuple[StoredImage, StoredImage], ...] = ()
    held: Mapping[str, StoredImage] = field(default_factory=dict)
    states: Mapping[str, State] = field(default_factory=dict)
    beside: tuple[StoredImage, ...] = ()

    @property
    def written(self) -> tuple[StoredImage, ...]:
        """The images that this writes, as they are afterwards."""
        return (*self.new, *(changed for _, changed in self.amended))


def planned(sent: Mapping[str, StoredImage], held: Mapping[str, StoredImage], moment: datetime) -> Plan:
    """Compare what was sent with what is there.

    Args:
        sent: images of one tenant, by their ids.
        held: what is there under these ids, and maybe others.
        moment: from when on other labels count.
    """
    known = {image_id: held[image_id] for image_id, image in sent.items() if is_known(image, held.get(image_id))}
    changed = {image_id: there.changed(_said(sent[image_id]), moment) for image_id, there in known.items()}
    beside = {image_id: there for image_id, there in known.items() if _is_beside(sent[image_id], there)}
    return Plan(
        new=tuple(image for image_id, image in sent.items() if image_id not in known),
        amended=tuple(  # those beside too, so that it is seen whether they are still there
            (there, changed[image_id])
            for image_id, there in known.items()
            if image_id in beside or changed[image_id] != there
        ),
        held=held,
        states={image_id: known.get(image_id, image).state for image_id, image in sent.items()},
        beside=tuple(beside.values()),
    )


def is_known(sent: StoredImage, held: StoredImage | None) -> bool:
    """Whether an image with this content is there, or with another encoder's vector; a rejected one is tried anew."""
    if held is None or held.state is State.REJECTED:
        return False
    return held.content_hash == sent.content_hash or _is_beside(sent, held)


def _is_beside(sent: StoredImage, held: StoredImage) -> bool:
    """Whether a vector was sent for an image that came as a vector of another encoder."""
    return not has_picture(sent.picture) and not has_picture(held.picture) and sent.encoder != held.encoder


def _said(image: StoredImage) -> dict[str, object]:
    return {name: getattr(image, name) for name in SENT_FIELDS}
