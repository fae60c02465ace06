"""Compare two encoders of a memory: on its own images, and on labelled pictures that are asked and never remembered."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

import numpy as np

from visual_memory.schemas.encoder import EncoderSpec
from visual_memory.schemas.encoder_comparison import EncoderComparison
from visual_memory.schemas.errors import InvalidRequest, NotFound
from visual_memory.schemas.evaluation_results import EvaluationOptions
from visual_memory.schemas.image import ImageFields, StoredImage, now
from visual_memory.services.curation.judgement.update_judgement_input import PAGE, id_clauses, voting_clauses
from visual_memory.services.encoder_migration.encoder_records import EncoderRecords
from visual_memory.services.evaluation.exact_search import Progress
from visual_memory.services.evaluation.measures.paired_statistics import EncodedImages, compare
from visual_memory.services.evaluation.neighbour_matrix import LabelledVectors
from visual_memory.services.memory.memory import Memory
from visual_memory.services.vector_engines.engine_contract import Vectors

Embed = Callable[[str, Sequence[bytes]], Vectors]
"""A tenant's pictures to vectors of one encoder, float32 [n, d]; raises what decoding raises."""
NAMED = 10
"""Tenants, or encoders, that a message names at most."""


@dataclass
class LabelledPictures:
    """Labelled pictures with the vectors that both encoders make of them; one that comes twice counts once.

    Attributes:
        tenant: for whom they are encoded.
        embed: by the first encoder, and by the second.
        labels: of each picture, by the digest of its bytes.
        names: what each is called.
        vectors: of each, by both.
    """

    tenant: str
    embed: tuple[Embed, Embed]
    labels: dict[str, list[str]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    vectors: dict[str, tuple[Vectors, Vectors]] = field(default_factory=dict)

    def add(self, pictures: Sequence[tuple[bytes, ImageFields]]) -> list[str]:
        """Encode pictures, all or none; their names.

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
    """The use case, with the parts that it needs.

    Attributes:
        memory_of: the memory by the vectors of an encoder.
        records: which encoders there are.
        max_images: of a larger memory so many images are drawn, for their vectors are held at once.
    """

    memory_of: Callable[[EncoderSpec], Memory]
    records: EncoderRecords
    max_images: int

    def choose(self, a: str | None, b: str | None) -> tuple[EncoderSpec, EncoderSpec]:
        """The two encoders that are meant, by their names: without `a` the active one, without `b` the only other.

        Raises:
            NotFound: there is no such encoder.
            InvalidRequest: they are the same, or there is no single other one.
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
            raise InvalidRequest(f"name the encoder that {first} is compared with: {', '.join(others[:NAMED])}")
        second = b or others[0]
        if first == second:
            raise InvalidRequest(f"two encoders are compared, and both are {first}")
        return spec, self.records.get(second)

    def tenant(self, encoder: EncoderSpec, asked: str | None) -> str:
        """Whose memory is meant: without a name, that of the only tenant.

        Raises:
            NotFound: this tenant has no images.
            InvalidRequest: there are several tenants, or none.
        """
        tenants = self.memory_of(encoder).images.tenants()
        if asked is not None:
            if asked not in tenants:
                raise NotFound(f"tenant {asked!r} has no images")
            return asked
        if len(tenants) != 1:
            named = ", ".join(tenants[:NAMED]) + ", ..." * (len(tenants) > NAMED)
            raise InvalidRequest(f"say whose memory with --tenant: {named or 'nobody has images yet'}")
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
            progress: told of the stage and how much of it is done out of how much.
            pictures: asked about beside the memory's own images, if there are any.

        Raises:
            InvalidRequest: fewer than two images vote and have both vectors.
        """
        names, memories = [spec.name for spec in encoders], [self.memory_of(spec) for spec in encoders]
        ids = self._voting(tenant, memories[0], progress)
        drawn = np.sort(np.random.default_rng(options.seed).permutation(len(ids))[: self.max_images])
        some = [ids[place] for place in drawn.tolist()]
        a, b = (_Read.of(memory, tenant, some, progress) for memory in memories)
        lacking = {name: len(some) - len(read.images) for name, read in zip(names, (a, b), strict=True)}
        both = [place for place, image in a.images.items() if (other := b.images.get(place)) and _same(image, other)]
        images = [a.images[place] for place in both]
        sides = [
            EncodedImages(name, _labelled(images, read.of_places(both)))
            for name, read in zip(names, (a, b), strict=True)
        ]
        del a, b
        asked = None
        if pictures is not None and pictures.labels:
            asked = [EncodedImages(side.encoder, side.memory, pictures.of(place)) for place, side in enumerate(sides)]
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
            folder=None if asked is None else compare(asked[0], asked[1], options, progress),
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
    """Images as they were read by one encoder.

    Attributes:
        images: those that have its vector, by their place among those that were asked for, ascending.
        vectors: float32 [asked for, d]; of others nothing that means anything.
    """

    images: dict[int, StoredImage]
    vectors: Vectors

    @classmethod
    def of(cls, memory: Memory, tenant: str, ids: Sequence[str], progress: Progress) -> "_Read":
        """Those of some ids that vote."""
        places = {image_id: place for place, image_id in enumerate(ids)}
        found: dict[int, StoredImage] = {}
        vectors = np.empty((len(ids), memory.dimension), np.float32)
        for done, clauses in enumerate(id_clauses(ids)):
            for images, rows in memory.images.pages_with_vectors(tenant, clauses, PAGE):
                where = [places[image.image_id] for image in images]
                found |= dict(zip(where, images, strict=True))
                vectors[where] = rows
            progress("vectors", min((done + 1) * PAGE, len(ids)), len(ids))
        return cls(dict(sorted(found.items())), vectors)

    def of_places(self, places: Sequence[int]) -> Vectors:
        """The vectors of the images at some places."""
        return self.vectors if len(places) == len(self.vectors) else self.vectors[places]


def _same(image: StoredImage, other: StoredImage) -> bool:
    """Whether an image was not replaced between two readings."""
    return image.picture == other.picture


def _labelled(images: Sequence[StoredImage], vectors: Vectors) -> LabelledVectors:
    contents = [image.content_hash for image in images]
    return LabelledVectors([image.image_id for image in images], [image.labels for image in images], vectors, contents)
