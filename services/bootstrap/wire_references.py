"""What reads the pictures that events name by URL."""

from services.intake.fetch import Fetch
from services.intake.references.allowed_prefixes import AllowedPrefixes
from services.intake.references.read_references import ReadReferences
from services.settings import Settings


def wire_references(settings: Settings) -> ReadReferences:
    """Reads what lies below the URLs that the settings allow each tenant.

    Raises:
        InvalidRequest: one of them is no URL of a folder, or a store's library is missing.
    """
    allowed, most = AllowedPrefixes(settings.intake.references), settings.pictures.max_bytes
    return ReadReferences(allowed, Fetch(allowed.hosts(), most, most), most)
