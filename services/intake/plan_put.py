"""Plan a put: compare images that are sent with the stored ones, which are new, changed or the same.

So that an image which is sent again is neither decoded nor embedded twice.
"""

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
        image: the image that is stored if there is none under its id.
        given: the fields that were sent, including null ones; a stored image keeps the others, except a file name that
            was unknown.
    """

    image: StoredImage
    given: frozenset[str] = frozenset(AMENDABLE)

    @classmethod
    def of(cls, image: StoredImage, fields: ImageFields) -> "ToPut":
        """An image with the fields that were sent."""
        return cls(image, frozenset(fields.model_fields_set.intersection(AMENDABLE)))


@dataclass(frozen=True)
class Rules:
    """How images that are sent change stored ones.

    Attributes:
        label_rule: what happens to the labels of a stored image.
        limited: limits the expiry of an image; see `services.intake.retention_limits.RetentionLimits`.
        may_expire: whether a stored image may expire earlier than before.
    """

    label_rule: LabelRule = LabelRule.REPLACE
    limited: Callable[[StoredImage], StoredImage] = lambda image: image
    may_expire: bool = True


@dataclass(frozen=True)
class Plan:
    """The writes that store what was sent, without doing anything twice.

    Attributes:
        new: images to put: none is stored under their ids, or one with other content, or a rejected one.
        amended: stored images, each with its changed version.
        add_vector_to: those stored images that have a vector of another encoder, and get the sent one in addition.
        held: the stored images, by image id.
        states: the state of each image after the writes, by image id.
        other_labels: ids of stored images that have other labels than were sent, and keep them.
    """

    new: tuple[StoredImage, ...]
    amended: tuple[tuple[StoredImage, StoredImage], ...] = ()
    held: Mapping[str, StoredImage] = field(default_factory=dict)
    states: Mapping[str, State] = field(default_factory=dict)
    add_vector_to: tuple[StoredImage, ...] = ()
    other_labels: frozenset[str] = frozenset()

    @property
    def written(self) -> tuple[StoredImage, ...]:
        """The written images, as they are afterwards."""
        return (*self.new, *(changed for _, changed in self.amended))


def planned(
    sent: Mapping[str, ToPut],
    held: Mapping[str, StoredImage],
    moment: datetime,
    rules: Rules = Rules(),
) -> Plan:
    """Compare images that are sent with the stored ones.

    Args:
        sent: images of one tenant, by their ids.
        held: the images that are stored under these ids, and maybe others.
        moment: the present, from which changed labels are valid.
        rules: how images that are sent change stored ones.

    Raises:
        InvalidRequest: an image would have too many labels.
    """
    there = {image_id: held[image_id] for image_id in sent if image_id in held}
    known = {image_id: one for image_id, one in there.items() if is_known(sent[image_id].image, one, moment)}
    changed = {
        image_id: rules.limited(one.changed(_changes(sent[image_id], one, rules.label_rule), moment))
        for image_id, one in known.items()
    }
    add_vector_to = {image_id: one for image_id, one in known.items() if _has_other_vector(sent[image_id].image, one)}
    other = (image_id for image_id, one in there.items() if {*one.labels} != {*sent[image_id].image.labels})
    return Plan(
        new=tuple(
            _replacing(one, there[image_id], moment, rules) if image_id in there else one.image
            for image_id, one in sent.items()
            if image_id not in known
        ),
        amended=tuple(  # includes unchanged ones with another encoder's vector, to detect whether they still exist
            (one, changed[image_id])
            for image_id, one in known.items()
            if image_id in add_vector_to or changed[image_id] != one
        ),
        held=held,
        states={image_id: known.get(image_id, one.image).state for image_id, one in sent.items()},
        add_vector_to=tuple(add_vector_to.values()),
        other_labels=frozenset(other) if rules.label_rule is LabelRule.KEEP else frozenset(),
    )


def is_known(sent: StoredImage, held: StoredImage | None, moment: datetime) -> bool:
    """Whether the stored image has the same content, or a vector of another encoder.

    One that was rejected, or has expired at `moment`, does not count.
    """
    if held is None or held.state is State.REJECTED or held.has_expired(moment):
        return False
    return held.content_hash == sent.content_hash or _has_other_vector(sent, held)


def sent_together(
    sent: Iterable[tuple[str, ImageFields]], rule: LabelRule = LabelRule.REPLACE
) -> Iterator[ImageFields]:
    """Merge the fields of images with the same id in one request: a later one keeps what it leaves out."""
    before: dict[str, ImageFields] = {}
    for image_id, fields in sent:
        if (earlier := before.get(image_id)) is not None:
            given = {name: getattr(fields, name) for name in fields.model_fields_set}
            given["labels"] = rule.applied(earlier.labels, fields.labels)
            before[image_id] = earlier.model_copy(update=given)
        else:
            before[image_id] = fields
        yield before[image_id]


def _replacing(sent: ToPut, held: StoredImage, moment: datetime, rules: Rules) -> StoredImage:
    """The image that replaces a stored one, with the fields of that one that were not sent."""
    kept = {name: getattr(held, name) for name in {*AMENDABLE} - sent.given}
    if held.has_expired(moment):
        kept.pop("expires_at", None)
    if held.file_name is None:
        kept.pop("file_name", None)
    kept["labels"] = rules.label_rule.applied(held.labels, sent.image.labels)
    kept["revision"] = next_revision(held.revision)
    return rules.limited(sent.image.model_copy(update=kept))


def _has_other_vector(sent: StoredImage, held: StoredImage) -> bool:
    """Whether a vector was sent for a stored image that has only a vector of another encoder."""
    return not has_picture(sent.picture) and not has_picture(held.picture) and sent.encoder != held.encoder


def _changes(sent: ToPut, held: StoredImage, rule: LabelRule) -> dict[str, object]:
    """The fields of a stored image that change."""
    given = {name: getattr(sent.image, name) for name in sent.given}
    given.setdefault("file_name", held.file_name or sent.image.file_name)
    return given | {"labels": rule.applied(held.labels, sent.image.labels)}
