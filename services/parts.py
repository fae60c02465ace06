"""Parts that are wired from the settings alone: for commands and beat, which need neither memory nor encoder.

Each is imported when it is asked for, so that a small process loads no more than it uses.
"""

from typing import TYPE_CHECKING

from services.runtime.places import Places
from services.runtime.redis_server import redis_url
from services.settings import Settings

if TYPE_CHECKING:
    from celery import Celery

    from services.access.audit import Audit
    from services.access.keys import Keys
    from services.memory.ledger import Ledger


def celery_of(settings: Settings) -> "Celery":
    """The Celery app over the Redis that the settings name, or over this machine's own."""
    from services.infrastructure.task_queue.celery_app import make_celery

    return make_celery(broker_url(settings), settings.worker, settings.curate.seconds)


def keys_of(settings: Settings) -> "Keys":
    """The keys of a service, which need not run."""
    from services.access.keys import Keys

    return Keys(ledger_of(settings))


def audit_of(settings: Settings) -> "Audit":
    """This machine's audit log."""
    from services.access.audit import Audit

    return Audit(Places(settings.data).audit)


def ledger_of(settings: Settings) -> "Ledger":
    """The records, beside the pictures."""
    from services.memory.ledger import Ledger

    return Ledger(beside(settings, "records"), settings.store.min_free_bytes)


def beside(settings: Settings, kind: str) -> str:
    """Where things of a kind are kept: a folder in the data folder, or at the pictures' URL."""
    base = settings.pictures.url or str(settings.data.absolute())
    return f"{base.rstrip('/')}/{kind}"


def broker_url(settings: Settings) -> str:
    """The Redis of the settings as Celery names it."""
    return settings.broker.url or redis_url(Places(settings.data))
