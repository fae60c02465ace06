"""Wire the commands that manage and compare encoders."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

from visual_memory.schemas.classify_options import Prune
from visual_memory.schemas.encoder import EncoderSpec
from visual_memory.services.access.signing_secret import load_secret
from visual_memory.services.bootstrap.wiring.wire_encoder_migration import of_encoder, wire_switch
from visual_memory.services.bootstrap.wiring.wire_memory import (
    encoder_of,
    encoder_records_of,
    engine_of_commands,
    load_shared,
    memory_of,
    missing_vectors_of,
    slice_size,
    wire_decoder,
)
from visual_memory.services.bootstrap.wiring.wire_records import wire_records
from visual_memory.services.bootstrap.wiring.wire_removal import (
    check_restored,
    wire_erase_removed_data,
    wire_stores,
)
from visual_memory.services.classification.classify import Classify
from visual_memory.services.encoder_migration.active_encoder import resolve_active_encoder
from visual_memory.services.encoder_migration.add_encoder import AddEncoder
from visual_memory.services.encoder_migration.compare_encoders import Embed, LabelledPictures
from visual_memory.services.encoder_migration.drop_encoder import DropEncoder
from visual_memory.services.encoder_migration.encoder_records import EncoderRecords
from visual_memory.services.encoder_migration.encoder_status import ListEncoderStatuses
from visual_memory.services.encoder_migration.switch_encoder import SwitchEncoder
from visual_memory.services.encoding.load_encoder import identify, load_encoder
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.memory.missing_vectors import MissingVectors
from visual_memory.services.settings import Settings


@dataclass(frozen=True)
class EncoderCommands:
    """The use cases.

    Attributes:
        memory_of: returns the memory under an encoder.
        missing_vectors_of: finds the images that lack its vector.
        is_served: whether a service may be running, which fills missing vectors.
    """

    settings: Settings
    records: EncoderRecords
    memory_of: Callable[[EncoderSpec], Memory]
    missing_vectors_of: Callable[[EncoderSpec], MissingVectors]
    show: ListEncoderStatuses
    add: AddEncoder
    switch: SwitchEncoder
    drop: DropEncoder
    is_served: bool


@contextmanager
def encoder_commands(settings: Settings) -> Iterator[EncoderCommands]:
    """Wire the use cases over a running service, or over the data folder if none runs.

    Raises:
        Unavailable: the store does not answer, or a restore is unfinished.
    """
    with ExitStack() as opened:
        engine, is_served = engine_of_commands(settings)
        opened.callback(engine.close)
        database = wire_records(settings, opened)
        records = encoder_records_of(database)
        shape = engine.inspect()
        if shape is not None and records.active() is None:  # a memory that is older than the records
            resolve_active_encoder(records, shape, settings.encoder)
        name, dimension = encoder_of(engine, records)
        memory = Memory(engine, name, dimension, settings.metadata)
        stores = wire_stores(settings, database, memory, load_secret(settings), name)
        check_restored(stores)
        compact = wire_erase_removed_data(settings, memory, stores)
        filling = partial(missing_vectors_of, engine)
        yield EncoderCommands(
            settings=settings,
            records=records,
            memory_of=partial(memory_of, settings, engine),
            missing_vectors_of=filling,
            show=ListEncoderStatuses(records, filling),
            add=AddEncoder(records, engine, identify, load_encoder),
            switch=wire_switch(settings, database, records, engine),
            drop=DropEncoder(records, engine, partial(of_encoder, settings, database, engine), compact),
            is_served=is_served,
        )


@contextmanager
def labelled_pictures(
    settings: Settings,
    tenant: str,
    encoders: tuple[EncoderSpec, EncoderSpec],
    memory_of: Callable[[EncoderSpec], Memory],
) -> Iterator[LabelledPictures]:
    """Load two encoders while labelled pictures are added.

    Raises:
        EncoderUnusable, EncoderMismatch: one cannot be loaded, or its files have changed.
    """
    with ExitStack() as opened:

        def embed(spec: EncoderSpec) -> Embed:
            encoder = load_shared(settings, spec)
            opened.callback(encoder.close)
            decoder = wire_decoder(settings, opened, encoder.crop)
            classify = Classify(
                memory_of(spec), encoder, decoder, slice_size(encoder), Prune.NONE, lambda _tenant: None
            )
            return classify.embed

        yield LabelledPictures(tenant, (embed(encoders[0]), embed(encoders[1])))
