"""What a removal's hook looks for in stored decisions, a part of the covered images at once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from visual_memory.schemas.labels import label_paths
from visual_memory.services.decisions.decision_mentions import CONTENT, IMAGE, NAMED, mention_number
from visual_memory.services.removal.covered_images import CoveredImage, CoveredImages
from visual_memory.services.removal.values_named_in_filters import IGNORED_FIELDS, value_name

AT_ONCE = 50_000
"""Removed images for which decisions are looked for once; they take some 50 MB meanwhile."""
OWN = {"file_name"}
"""Fields that name one image alone, as its id and its content do."""


@dataclass
class CoveredChunk:
    """Some of the images that a removal covered.

    Attributes:
        own_names: what names one of them alone.
        shared_names: fields and what they had in them; others may have the same.
    """

    tenant: str
    image_ids: set[str] = field(default_factory=set)
    content_hashes: set[str] = field(default_factory=set)
    own_names: set[str] = field(default_factory=set)
    shared_names: set[tuple[str, str]] = field(default_factory=set)

    def add(self, notes: Sequence[CoveredImage]) -> None:
        """Look for these images too."""
        for note in notes:
            self.image_ids.add(note.image_id)
            self.content_hashes.add(note.content_hash)
            self.own_names.update((value_name("image_id", note.image_id), note.content_hash))
            for name, value in _fields(note):
                if name in OWN:
                    self.own_names.add(value_name(name, value))
                elif name not in IGNORED_FIELDS:
                    self.shared_names.add((name, value_name(name, value)))

    def mentions(self) -> Iterator[int]:
        """By what the decisions are found that may tell of them."""
        yield from (mention_number(self.tenant, IMAGE, each) for each in self.image_ids)
        yield from (mention_number(self.tenant, CONTENT, each) for each in self.content_hashes)
        names = self.own_names.union(name for _, name in self.shared_names)
        yield from (mention_number(self.tenant, NAMED, each) for each in names)


def chunks(tenant: str, covered: CoveredImages) -> Iterator[CoveredChunk]:
    """The covered images, at most about `AT_ONCE` at once."""
    chunk = CoveredChunk(tenant)
    for page in covered:
        chunk.add(page)
        if len(chunk.image_ids) >= AT_ONCE:
            yield chunk
            chunk = CoveredChunk(tenant)
    if chunk.image_ids:
        yield chunk


def _fields(note: CoveredImage) -> Iterator[tuple[str, object]]:
    """What filters may ask for of an image, field by field."""
    for name, value in note.fields.items():
        if name == "labels":
            yield from (("labels", path) for path in label_paths(value))
        elif name == "metadata":
            yield from ((f"metadata.{key}", each) for key, each in value.items())
        elif isinstance(value, str):
            yield name, value
