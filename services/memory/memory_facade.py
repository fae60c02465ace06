"""The memory of images, as the use cases get it: one object for each job, over the points of one collection."""

from collections.abc import Mapping

from visual_memory.schemas.field_types import FieldType
from visual_memory.services.memory.conditional_writes import ConditionalWrites
from visual_memory.services.memory.image_leases import ImageLeases
from visual_memory.services.memory.image_lookup import ImageLookup
from visual_memory.services.memory.label_conflicts import LabelConflicts
from visual_memory.services.memory.missing_vectors import MissingVectors
from visual_memory.services.memory.muted_images import MutedImages
from visual_memory.services.memory.nearest_neighbours import NeighbourSearch
from visual_memory.services.memory.ordered_images import OrderedImages
from visual_memory.services.memory.points.collection_schema import open_collection
from visual_memory.services.memory.points.read_and_write_points import Points
from visual_memory.services.memory.removal_marks import RemovalMarks
from visual_memory.services.memory.similar_images import SimilarImages
from visual_memory.services.memory.store_embeddings import EmbeddingWriter
from visual_memory.services.vector_engines.engine_contract import Compaction, Engine


class Memory:
    """The images of all tenants, with the vectors of one encoder; call `open` first.

    Images may have vectors of several encoders; see `with_encoder`. Every method, of its parts too, raises
    `schemas.errors.Unavailable` if the engine does not answer or has dropped the encoder's vectors, and `OutOfSpace` if
    its disk is full. Every write is durable when it returns and harmless when repeated.

    Args:
        engine: stores the points; `close` closes it.
        encoder_name: the name of the vectors.
        dimension: their length.
        metadata: the declared metadata fields, which are indexed.

    Attributes:
        points: reads and writes the points; for what no other part offers.
        images: gets, lists and counts images.
        in_order: lists images in the order of a moment.
        search: finds the nearest images that vote.
        similar: finds the most similar images.
        writes: puts, changes and deletes images that are unchanged since they were read.
        leases: leases waiting images to workers.
        embeddings: stores the vectors of leased images.
        mutes: unmutes images, and undoes what other images did to them.
        conflicts: replaces and withdraws label conflicts.
        marks: the marks of removals.
        missing_vectors: finds images that lack a vector of this encoder and stores it.
        dimension: as given.
        metadata: as given.
    """

    def __init__(self, engine: Engine, encoder_name: str, dimension: int, metadata: Mapping[str, FieldType]) -> None:
        self.points = Points(engine, encoder_name, dimension)
        self.images = ImageLookup(self.points, metadata)
        self.in_order = OrderedImages(self.points)
        self.similar = SimilarImages(self.points)
        self.search = NeighbourSearch(self.points, self.images.voting)
        self.writes = ConditionalWrites(self.points)
        self.leases = ImageLeases(self.points)
        self.embeddings = EmbeddingWriter(self.points)
        self.mutes = MutedImages(self.points)
        self.conflicts = LabelConflicts(self.points)
        self.marks = RemovalMarks(self.points)
        self.missing_vectors = MissingVectors(engine, encoder_name, dimension)
        self.dimension = dimension
        self.metadata = metadata

    def open(self) -> None:
        """Create the collection, or check that it has this encoder's vectors and add the indexes that it lacks.

        Raises:
            EncoderMismatch: it has vectors of another name or length.
        """
        open_collection(self.points.engine, self.points.encoder, self.dimension, self.metadata)

    def with_encoder(self, encoder_name: str, dimension: int) -> "Memory":
        """The same images under another encoder whose vectors the collection has; closed with this memory."""
        return Memory(self.points.engine, encoder_name, dimension, self.metadata)

    def compact(self) -> Compaction:
        """Erase what was deleted or overwritten before the call, of every tenant; see `Engine.compact`."""
        return self.points.engine.compact()

    def recover(self) -> None:
        """Repair what a compaction that died left changed, if none is running."""
        self.points.engine.recover()

    def ping(self) -> None:
        """Return if the engine answers."""
        self.points.engine.ping()

    def close(self) -> None:
        """Close the engine; no other method may be called afterwards."""
        self.points.engine.close()
