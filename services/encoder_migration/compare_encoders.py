"""Compare two encoders on a memory's images, and on labelled pictures that are classified and never remembered.

This module selects the encoders and reads their vectors; `services.evaluation.measures.paired_statistics` computes the
figures.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

import numpy as np

from visual_memory.schemas.encoder import EncoderSpec
from visual_memory.schemas.encoder_comparison import EncoderComparison
from visual_memory.schemas.errors import InvalidRequest, NotFound
from visual_memory.schemas.evaluation_results import EvaluationOptions
from visual_memory.schemas.image import ImageFields, StoredImage
from visual_memory.schemas.moments import now
from visual_memory.services.curation.judgement.update_judgement_input import PAGE, id_clauses, voting_clauses
from visual_memory.services.encoder_migration.encoder_records import EncoderRecords
from visual_memory.services.evaluation.measures.paired_statistics import EncodedImages, compare
from visual_memory.services.evaluation.neighbour_matrix import LabelledVectors
from visual_memory.services.evaluation.search_with_progress import Progress
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.vector_engines.engine_contract import Vectors

Embed = Callable[[str, Sequence[bytes]], Vectors]
"""Embeds a tenant's pictures with one encoder, float32 [n, d]; raises what decoding raises."""
MAX_NAMES = 10
"""Tenants, or encoders, that a message lists."""


@dataclass
class LabelledPictures:
    """Labelled pictures with their vectors of both encoders; a picture that is added twice counts once.

    Attributes:
        tenant: for whom they are encoded.
        embed: with the first encoder, and with the second.
        labels: of each picture, by the digest of its bytes.
        names: of each picture.
        vectors: of each picture, from both encoders.
    """

    tenant: str
    embed: tuple[Embed, Embed]
    labels: dict[str, list[str]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    vectors: dict[str, tuple[Vectors, Vectors]] = field(default_factory=dict)

    def add(self, pictures: Sequence[tuple[bytes, ImageFields]]) -> list[str]:
        """Encode pictures, all or none; returns their names.

        Raises:
            InvalidPicture, UnsupportedFormat, TooLarge: one cannot be decoded.
        """
        encoded = [embed(self.tenant, [data for data, _ in pictures]) for embed in self.embed]
        for (data, fields), *rows in zip(pictures, *encoded, strict=True):
            content = sha256(data).hexdigest()
            self.labels[content] = list(dict.fromkeys([*self.labels.get(content, []), *fields.labels]))
            self.names.setdefault(content, fields.image_id or content)
            self.vectors.setdefault(content, (rows[0], rows[1]))
        return [fields.image_id or "" for _, fields in pictures]

    def of(self, which: int) -> LabelledVectors:
        """The pictures with the vectors of the first encoder (0) or of the second (1)."""
        rows = [both[which] for both in self.vectors.values()]
        return LabelledVectors(list(self.names.values()), list(self.labels.values()), np.array(rows, np.float32))


@dataclass(frozen=True)
class CompareEncoders:
    """The use case.

    Attributes:
        memory_of: the memory with the vectors of an encoder.
        records: the known encoders.
        max_images: sample size in larger memories, because all vectors are in memory at once.
    """

    memory_of: Callable[[EncoderSpec], Memory]
    records: EncoderRecords
    max_images: int

    def choose(self, a: str | None, b: str | None) -> tuple[EncoderSpec, EncoderSpec]:
        """Select two encoders by name; by default `a` is the active one, and `b` the only other.

        Raises:
            NotFound: there is no such encoder.
            InvalidRequest: they are the same, or there is no other one, or several.
        """
        known, active = self.records.known(), self.records.active()
        first = a or (active.name if active else None)
        if first is None:
            raise InvalidRequest("this memory has no encoder yet: start the service once, then add another encoder")
        spec, dropping = self.records.get(first), self.records.dropping()
        others = [name for name in known if name != first and name not in dropping]
        if b is None and not others:
            raise InvalidRequest(f"{first} is the only encoder: add another with 'visual-memory encoder add NAME'")
        if b is None and len(others) > 1:
            raise InvalidRequest(f"name the encoder that {first} is compared with: {', '.join(others[:MAX_NAMES])}")
        second = b or others[0]
        if first == second:
            raise InvalidRequest(f"name two different encoders: both are {first}")
        return spec, self.records.get(second)

    def tenant(self, encoder: EncoderSpec, name: str | None) -> str:
        """Select a tenant by name; by default the only one.

        Raises:
            NotFound: this tenant has no images.
            InvalidRequest: there are several tenants, or none.
        """
        tenants = self.memory_of(encoder).images.tenants()
        if name is not None:
            if name not in tenants:
                raise NotFound(f"tenant {name!r} has no images")
            return name
        if len(tenants) != 1:
            names = ", ".join(tenants[:MAX_NAMES]) + ", ..." * (len(tenants) > MAX_NAMES)
            raise InvalidRequest(f"name the tenant with --tenant: {names or 'no tenant has images yet'}")
        return tenants[0]

    def __call__(
        self,
        tenant: str,
        encoders: tuple[EncoderSpec, EncoderSpec],
        options: EvaluationOptions,
        progress: Progress,
        pictures: LabelledPictures | None = None,
    ) -> EncoderComparison:
        """Compare two encoders.

        Args:
            tenant: whose memory.
            encoders: both; see `choose`.
            options: the vote, k and seed.
            progress: called with the stage, how much of it is done, and the total.
            pictures: classified in addition to the memory's own images, if there are any.

        Raises:
            InvalidRequest: fewer than two images vote and have both vectors.
        """
        names, memories = [spec.name for spec in encoders], [self.memory_of(spec) for spec in encoders]
        ids = self._voting(tenant, memories[0], progress)
        sample = np.sort(np.random.default_rng(options.seed).permutation(len(ids))[: self.max_images])
        some = [ids[position] for position in sample.tolist()]
        a, b = (_Read.of(memory, tenant, some, progress) for memory in memories)
        lacking = {name: len(some) - len(read.images) for name, read in zip(names, (a, b), strict=True)}
        both = [row for row, image in a.images.items() if (other := b.images.get(row)) and _same(image, other)]
        images = [a.images[row] for row in both]
        sides = [
            EncodedImages(name, _labelled(images, read.vectors_of(both)))
            for name, read in zip(names, (a, b), strict=True)
        ]
        del a, b
        with_pictures = None
        if pictures is not None and pictures.labels:
            with_pictures = [EncodedImages(side.encoder, side.memory, pictures.of(i)) for i, side in enumerate(sides)]
        contents = {image.content_hash for image in images}
        return EncoderComparison(
            tenant=tenant,
            a=names[0],
            b=names[1],
            voting=len(ids),
            drawn=len(some) if len(some) < len(ids) else None,
            lacking=lacking,
            seed=options.seed,
            itself=compare(sides[0], sides[1], options, progress),
            folder=compare(with_pictures[0], with_pictures[1], options, progress) if with_pictures else None,
            known=len(contents & pictures.labels.keys()) if pictures else 0,
        )

    def _voting(self, tenant: str, memory: Memory, progress: Progress) -> list[str]:
        """The ids of all images that vote, ascending."""
        ids: list[str] = []
        where = voting_clauses(now())
        total = memory.images.count(tenant, where)
        for page in memory.images.pages(tenant, where, PAGE):
            ids += [image.image_id for image in page]
            progress("images", len(ids), total)
        return sorted(ids)


@dataclass(frozen=True)
class _Read:
    """Images with the vectors of one encoder.

    Attributes:
        images: those that have a vector, by row, ascending.
        vectors: float32 [n, d], one row per requested id; undefined for images without a vector.
    """

    images: dict[int, StoredImage]
    vectors: Vectors

    @classmethod
    def of(cls, memory: Memory, tenant: str, ids: Sequence[str], progress: Progress) -> "_Read":
        """Read the images with these ids that vote."""
        row_of = {image_id: row for row, image_id in enumerate(ids)}
        found: dict[int, StoredImage] = {}
        vectors = np.empty((len(ids), memory.dimension), np.float32)
        for done, clauses in enumerate(id_clauses(ids)):
            for images, page in memory.images.pages_with_vectors(tenant, clauses, PAGE):
                rows = [row_of[image.image_id] for image in images]
                found |= dict(zip(rows, images, strict=True))
                vectors[rows] = page
            progress("vectors", min((done + 1) * PAGE, len(ids)), len(ids))
        return cls(dict(sorted(found.items())), vectors)

    def vectors_of(self, rows: Sequence[int]) -> Vectors:
        """The vectors in some rows, ascending."""
        return self.vectors if len(rows) == len(self.vectors) else self.vectors[rows]


def _same(image: StoredImage, other: StoredImage) -> bool:
    """Whether an image was not replaced between two reads."""
    return image.picture == other.picture


def _labelled(images: Sequence[StoredImage], vectors: Vectors) -> LabelledVectors:
    contents = [image.content_hash for image in images]
    return LabelledVectors([image.image_id for image in images], [image.labels for image in images], vectors, contents)
