"""An image classifier that you teach by showing and un-teach by asking.

The names below are the client and what it takes and returns; each is imported when it is first used. A memory in this
process, without a service: `visual_memory.local`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from visual_memory.schemas.bulk_request import BulkAction, BulkRequest
    from visual_memory.schemas.change import Change, ChangePreview
    from visual_memory.schemas.classify_options import ClassifyOptions, Effort, GroupBy, Prune, Vote
    from visual_memory.schemas.curation_request import Action, CurationRequest
    from visual_memory.schemas.decision import Decision, Decisions
    from visual_memory.schemas.errors import VisualMemoryError
    from visual_memory.schemas.evaluation_request import EvaluationJob, EvaluationRequest
    from visual_memory.schemas.event import Event, EventType
    from visual_memory.schemas.explanation import DecisionPreviewRequest, ReplayRequest
    from visual_memory.schemas.filter import Filter
    from visual_memory.schemas.image import Accepted, Image, ImageFields, ImagePatch, State
    from visual_memory.schemas.image_search import FoundImage
    from visual_memory.schemas.judgement import Suspect, Suspicion
    from visual_memory.schemas.labels import LabelCount, LabelRule
    from visual_memory.schemas.removal import Removal, RemovalPreview, RemovalRequest
    from visual_memory.services.client.http_client import AsyncClient, Client

__version__ = "0.1.0"

__all__ = [
    "Accepted",
    "Action",
    "AsyncClient",
    "BulkAction",
    "BulkRequest",
    "Change",
    "ChangePreview",
    "ClassifyOptions",
    "Client",
    "CurationRequest",
    "Decision",
    "DecisionPreviewRequest",
    "Decisions",
    "Effort",
    "EvaluationJob",
    "EvaluationRequest",
    "Event",
    "EventType",
    "Filter",
    "FoundImage",
    "GroupBy",
    "Image",
    "ImageFields",
    "ImagePatch",
    "LabelCount",
    "LabelRule",
    "Prune",
    "Removal",
    "RemovalPreview",
    "RemovalRequest",
    "ReplayRequest",
    "State",
    "Suspect",
    "Suspicion",
    "VisualMemoryError",
    "Vote",
]

_MODULES = {
    "schemas.bulk_request": ("BulkAction", "BulkRequest"),
    "schemas.change": ("Change", "ChangePreview"),
    "schemas.classify_options": ("ClassifyOptions", "Effort", "GroupBy", "Prune", "Vote"),
    "schemas.curation_request": ("Action", "CurationRequest"),
    "schemas.decision": ("Decision", "Decisions"),
    "schemas.errors": ("VisualMemoryError",),
    "schemas.evaluation_request": ("EvaluationJob", "EvaluationRequest"),
    "schemas.event": ("Event", "EventType"),
    "schemas.explanation": ("DecisionPreviewRequest", "ReplayRequest"),
    "schemas.filter": ("Filter",),
    "schemas.image": ("Accepted", "Image", "ImageFields", "ImagePatch", "State"),
    "schemas.image_search": ("FoundImage",),
    "schemas.judgement": ("Suspect", "Suspicion"),
    "schemas.labels": ("LabelCount", "LabelRule"),
    "schemas.removal": ("Removal", "RemovalPreview", "RemovalRequest"),
    "services.client.http_client": ("AsyncClient", "Client"),
}
"""Where each name is, as the imports above say to type checkers."""

if not TYPE_CHECKING:  # else a wrong name would be `Any`

    def __getattr__(name: str) -> Any:
        """Import a name when it is first used (PEP 562)."""
        for module, names in _MODULES.items():
            if name in names:
                value = getattr(import_module(f"{__name__}.{module}"), name)
                globals()[name] = value
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
