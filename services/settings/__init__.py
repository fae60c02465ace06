"""Every setting, by concern: from the environment or ``visual-memory.toml``."""

from visual_memory.services.settings.all_settings import MIN_SECRET_BYTES, Settings
from visual_memory.services.settings.api_settings import ApiSettings
from visual_memory.services.settings.classification_settings import CurateSettings, DecisionSettings, RerankSettings
from visual_memory.services.settings.encoder_settings import EncoderSettings
from visual_memory.services.settings.queue_settings import BrokerSettings, IntakeSettings, WorkerSettings
from visual_memory.services.settings.settings_section import MAX_AT_ONCE, PREFIX
from visual_memory.services.settings.settings_table import settings_table
from visual_memory.services.settings.storage_settings import (
    HOST_PATTERN,
    PictureSettings,
    RecordsSettings,
    RemovalSettings,
    StoreSettings,
)

__all__ = [
    "HOST_PATTERN",
    "MAX_AT_ONCE",
    "MIN_SECRET_BYTES",
    "PREFIX",
    "ApiSettings",
    "BrokerSettings",
    "CurateSettings",
    "DecisionSettings",
    "EncoderSettings",
    "IntakeSettings",
    "PictureSettings",
    "RecordsSettings",
    "RemovalSettings",
    "RerankSettings",
    "Settings",
    "StoreSettings",
    "WorkerSettings",
    "settings_table",
]
