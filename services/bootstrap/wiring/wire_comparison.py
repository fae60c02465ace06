"""What encodes labelled pictures by two encoders that are compared."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from visual_memory.schemas.decision import Prune
from visual_memory.schemas.encoder import EncoderSpec
from visual_memory.services.bootstrap.wiring.wire_memory import load_shared, slice_size, wire_decoder
from visual_memory.services.classification.classify import Classify
from visual_memory.services.encoder_migration.compare_encoders import Embed, LabelledPictures
from visual_memory.services.memory.memory import Memory
from visual_memory.services.settings import Settings


@contextmanager
def labelled_pictures(
    settings: Settings,
    tenant: str,
    encoders: tuple[EncoderSpec, EncoderSpec],
    memory_of: Callable[[EncoderSpec], Memory],
) -> Iterator[LabelledPictures]:
    """Load two encoders for as long as pictures are added.

    Raises:
        EncoderUnusable, EncoderMismatch: one cannot be loaded, or its files are others.
    """
    with ExitStack() as opened:

        def embed(spec: EncoderSpec) -> Embed:
            encoder = load_shared(settings, spec)
            opened.callback(encoder.close)
            decoder = wire_decoder(settings, opened, encoder.view)
            classify = Classify(
                memory_of(spec), encoder, decoder, slice_size(encoder), Prune.NONE, lambda _tenant: None
            )
            return classify.embed

        yield LabelledPictures(tenant, (embed(encoders[0]), embed(encoders[1])))
