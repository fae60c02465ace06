"""A removal's receipt, waited for."""

import time

from schemas.removal import Removal, RemovalStatus
from services.client import Client

POLL = 0.5


def wait_for_receipt(client: Client, removal: Removal) -> Removal:
    """Ask until the removal is done."""
    while removal.status is not RemovalStatus.DONE:
        time.sleep(POLL)
        removal = client.removal(removal.id)
    return removal
