"""The vision-language model that the settings name."""

from contextlib import ExitStack

from services.answers.rerank import Rerank
from services.bootstrap.wire_task_queue import wire_rates
from services.memory.memory import Memory
from services.memory.pictures import Pictures
from services.perception.decoder import Decoder
from services.settings import RerankSettings, Settings
from services.vision.model import VisionModel


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
