"""What images that are sent are to what is there: new, the same with other labels or fields, or just the same."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from visual_memory.schemas.image import ImageFields, State, StoredImage, has_picture, next_revision
from visual_memory.schemas.labels import LabelRule
from visual_memory.services.memory.points.point_payload import AMENDABLE


@dataclass(frozen=True)
class ToPut:
    """An image as it was sent.

    Attributes:
        image: what it is where nothing is there under its id.
        said: its fields that were sent, if only as null; the others stay as they are where it is there, but for a
            file's name that was not known.
    """

    image: StoredImage
    said: frozenset[str] = frozenset(AMENDABLE)

    @classmethod
    def of(cls, image: StoredImage, fields: ImageFields) -> "ToPut":
        """An image with the fields that it was made of."""
        return cls(image, frozenset(fields.model_fields_set.intersection(AMENDABLE)))


@dataclass(frozen=True)
class Rules:
    """How what is sent changes what is there.

    Attributes:
        labels: what becomes of the labels of what is there.
        limited: an image with its expiry; see `services.data_governance.retention_limits.Retention.limited`.
        may_expire: whether what is there may expire earlier than before.
    """

    labels: LabelRule = LabelRule.REPLACE
    limited: Callable[[StoredImage], StoredImage] = lambda image: image
    may_expire: bool = True


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
        other_labels: ids of those that are there with other labels, and keep them.
    """

    new: tuple[StoredImage, ...]
    amended: tuple[tuple[StoredImage, StoredImage], ...] = ()
    held: Mapping[str, StoredImage] = field(default_factory=dict)
    states: Mapping[str, State] = field(default_factory=dict)
    beside: tuple[StoredImage, ...] = ()
    other_labels: frozenset[str] = frozenset()

    @property
    def written(self) -> tuple[StoredImage, ...]:
        """The images that this writes, as they are afterwards."""
        return (*self.new, *(changed for _, changed in self.amended))


def planned(
    sent: Mapping[str, ToPut],
    held: Mapping[str, StoredImage],
    moment: datetime,
    rules: Rules = Rules(),
) -> Plan:
    """Compare what was sent with what is there.

    Args:
        sent: images of one tenant, by their ids.
        held: what is there under these ids, and maybe others.
        moment: the present, from when on other labels count.
        rules: how what is sent changes what is there.

    Raises:
        InvalidRequest: an image would have too many labels.
    """
    there = {image_id: held[image_id] for image_id in sent if image_id in held}
    known = {image_id: one for image_id, one in there.items() if is_known(sent[image_id].image, one, moment)}
    changed = {
        image_id: rules.limited(one.changed(_changes(sent[image_id], one, rules.labels), moment))
        for image_id, one in known.items()
    }
    beside = {image_id: one for image_id, one in known.items() if _is_beside(sent[image_id].image, one)}
    other = (image_id for image_id, one in there.items() if {*one.labels} != {*sent[image_id].image.labels})
    return Plan(
        new=tuple(
            _replacing(one, there[image_id], moment, rules) if image_id in there else one.image
            for image_id, one in sent.items()
            if image_id not in known
        ),
        amended=tuple(  # those beside too, so that it is seen whether they are still there
            (one, changed[image_id])
            for image_id, one in known.items()
            if image_id in beside or changed[image_id] != one
        ),
        held=held,
        states={image_id: known.get(image_id, one.image).state for image_id, one in sent.items()},
        beside=tuple(beside.values()),
        other_labels=frozenset(other) if rules.labels is LabelRule.KEEP else frozenset(),
    )


def is_known(sent: StoredImage, held: StoredImage | None, moment: datetime) -> bool:
    """Whether an image with this content is there, or with another encoder's vector.

    One that was rejected, or has expired by a moment, is tried anew.
    """
    if held is None or held.state is State.REJECTED or held.has_expired(moment):
        return False
    return held.content_hash == sent.content_hash or _is_beside(sent, held)


def sent_together(
    sent: Iterable[tuple[str, ImageFields]], rule: LabelRule = LabelRule.REPLACE
) -> Iterator[ImageFields]:
    """The fields of images of one request, each with its id: what the later of an id leaves out, the earlier says."""
    before: dict[str, ImageFields] = {}
    for image_id, fields in sent:
        if (earlier := before.get(image_id)) is not None:
            said = {name: getattr(fields, name) for name in fields.model_fields_set}
            said["labels"] = rule.applied(earlier.labels, fields.labels)
            before[image_id] = earlier.model_copy(update=said)
        else:
            before[image_id] = fields
        yield before[image_id]


def _replacing(sent: ToPut, held: StoredImage, moment: datetime, rules: Rules) -> StoredImage:
    """An image in the place of one that is there: of its fields, what was not sent is taken over."""
    kept = {name: getattr(held, name) for name in {*AMENDABLE} - sent.said}
    if held.has_expired(moment):
        kept.pop("expires_at", None)
    if held.file_name is None:
        kept.pop("file_name", None)
    kept["labels"] = rules.labels.applied(held.labels, sent.image.labels)
    kept["revision"] = next_revision(held.revision)
    return rules.limited(sent.image.model_copy(update=kept))


def _is_beside(sent: StoredImage, held: StoredImage) -> bool:
    """Whether a vector was sent for an image that came as a vector of another encoder."""
    return not has_picture(sent.picture) and not has_picture(held.picture) and sent.encoder != held.encoder


def _changes(sent: ToPut, held: StoredImage, rule: LabelRule) -> dict[str, object]:
    """What a known image becomes by what was sent."""
    said = {name: getattr(sent.image, name) for name in sent.said}
    said.setdefault("file_name", held.file_name or sent.image.file_name)
    return said | {"labels": rule.applied(held.labels, sent.image.labels)}
