"""What reads the pictures that events name by URL."""

from visual_memory.services.intake.picture_urls.allowed_prefixes import AllowedPrefixes
from visual_memory.services.intake.picture_urls.fetch_url import Fetch
from visual_memory.services.intake.picture_urls.read_picture_urls import ReadReferences
from visual_memory.services.settings import Settings


def wire_references(settings: Settings) -> ReadReferences:
    """Reads what lies below the URLs that the settings allow each tenant.

    Raises:
        InvalidRequest: one of them is no URL of a folder, or a store's library is missing.
    """
    allowed, most = AllowedPrefixes(settings.intake.references), settings.pictures.max_bytes
    return ReadReferences(allowed, Fetch(allowed.hosts(), most, most), most)
