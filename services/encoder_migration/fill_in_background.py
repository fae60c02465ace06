"""Run fill passes and upgrades for as long as the process lives, in a thread of the worker."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from visual_memory.schemas.encoder import EncoderSpec, FillSettings
from visual_memory.schemas.errors import Unavailable
from visual_memory.services.encoder_migration.encoder_records import EncoderRecords
from visual_memory.services.encoder_migration.fill_pass import FillPass, ReadFillSettings
from visual_memory.services.encoding.micro_batcher import MicroBatcher
from visual_memory.services.infrastructure.observability.json_logs import kind
from visual_memory.services.infrastructure.processes import cpu_threads
from visual_memory.services.memory.missing_vectors import MissingVectors

POLL_SECONDS = 1.0
"""How often the records are read: an encoder that is paused, added or dropped is noticed within this time."""
IDLE_FACTOR = 200
"""After a search for missing vectors that found none, the loop waits this many times the duration of the search: with a
million images it takes half a second, in which an embedded store answers no other request."""
RETRY_SECONDS = 5.0
"""Wait after a component did not answer."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FillLoop:
    """Fills every encoder that lacks vectors.

    Attributes:
        missing_vectors_of: what an encoder lacks.
        loaded: the encoder with a name, if this process has loaded it.
        open_pass: opens a pass over the images of all tenants.
        upgrade: called after each fill; adds an encoder, or switches to one, if the settings require it.
        ended: set when the process ends.
    """

    records: EncoderRecords
    missing_vectors_of: Callable[[EncoderSpec], MissingVectors]
    loaded: Callable[[str], MicroBatcher | None]
    open_pass: Callable[[MicroBatcher, ReadFillSettings], AbstractContextManager[FillPass]]
    upgrade: Callable[[], object]
    ended: threading.Event
    _idle_until: dict[str, float] = field(default_factory=dict, init=False)

    def run(self) -> None:
        """Fill and upgrade until the process ends; errors are logged and tried again."""
        cpu_threads.lower_priority()
        pause = POLL_SECONDS
        while not self.ended.wait(pause):
            try:
                self.fill()
                self.upgrade()
                pause = POLL_SECONDS
            except Unavailable as error:
                log.warning("filling is tried again later: %s", kind(error))
                pause = RETRY_SECONDS
            except Exception:
                log.exception("filling failed and is tried again")
                pause = RETRY_SECONDS

    def fill(self) -> None:
        """Fill each encoder that lacks vectors, one after the other; does nothing if there is only one encoder.

        The active encoder is filled too: an image that was remembered during a switch may lack its vector.
        """
        known = self.records.known()
        for spec in self._fillable(known) if len(known) > 1 else ():
            read_settings, encoder = _CachedFillSettings(self.records, spec.name), self.loaded(spec.name)
            settings = None if self.ended.is_set() else read_settings()
            if encoder and settings and not settings.paused and self._lacks_vectors(spec):
                with self.open_pass(encoder, read_settings) as fill_pass:
                    log.info("filling the vectors of %s", spec.name)
                    log.info("filled %d vectors of %s", fill_pass(), spec.name)

    def _lacks_vectors(self, spec: EncoderSpec) -> bool:
        """Whether vectors are missing; False without a search for a while after one that found none."""
        begun = time.monotonic()
        if begun < self._idle_until.get(spec.name, begun):
            return False
        left = self.missing_vectors_of(spec).any_left()
        ended = time.monotonic()
        self._idle_until[spec.name] = ended + (0 if left else IDLE_FACTOR * (ended - begun))
        return left

    def _fillable(self, known: Mapping[str, EncoderSpec]) -> list[EncoderSpec]:
        dropping = self.records.dropping()
        return [spec for name, spec in known.items() if name not in dropping]


class _CachedFillSettings:
    """The settings of an encoder, read from the records at most once a second; thread-safe."""

    def __init__(self, records: EncoderRecords, name: str) -> None:
        self._records, self._name = records, name
        self._lock = threading.Lock()
        self._read_at = -POLL_SECONDS
        self._settings: FillSettings | None = None

    def __call__(self) -> FillSettings | None:
        with self._lock:
            if time.monotonic() - self._read_at >= POLL_SECONDS:
                gone = self._name in self._records.dropping() or self._name not in self._records.known()
                self._settings = None if gone else self._records.fill(self._name)
                self._read_at = time.monotonic()
            return self._settings
