"""The vision-language model that the settings name."""

from contextlib import ExitStack

from visual_memory.services.bootstrap.wiring.wire_task_queue import wire_rates
from visual_memory.services.classification.reranking.rerank import Rerank
from visual_memory.services.classification.reranking.vision_model import VisionModel
from visual_memory.services.decoding.decode_many import Decoder
from visual_memory.services.infrastructure.storage.picture_store import Pictures
from visual_memory.services.memory.memory import Memory
from visual_memory.services.settings import RerankSettings, Settings


def wire_rerank(settings: Settings, opened: ExitStack, memory: Memory, pictures: Pictures, decoder: Decoder) -> Rerank:
    """Re-ranking; it has rates of its own, for it counts in an event loop of its own."""
    model, rates = vision_model(settings.rerank), wire_rates(settings)
    rerank = Rerank(settings.rerank, model, memory, pictures, decoder, rates)
    opened.callback(rerank.close)
    return rerank


def vision_model(settings: RerankSettings) -> VisionModel | None:
    """The vision-language model that the settings name; None where they name none."""
    if settings.url is None or settings.model is None:
        return None
    key = settings.api_key.get_secret_value() if settings.api_key else ""
    return VisionModel(settings.url, settings.model, key, settings.parameters)
