"""Keep the encoders of a process loaded: each is loaded before a switch to it, and closed after it is dropped."""

import logging
import threading
import time
from collections.abc import Callable

from visual_memory.schemas.encoder import EncoderSpec
from visual_memory.schemas.errors import Unavailable, VisualMemoryError
from visual_memory.services.encoder_migration.encoder_records import EncoderRecords
from visual_memory.services.encoding.micro_batcher import MicroBatcher
from visual_memory.services.infrastructure.observability.json_logs import kind

POLL_SECONDS = 1.0
"""How often the records are read: a switch or drop takes effect within about this time."""
RETRY_SECONDS = 60.0
"""Wait after an encoder could not be loaded."""

log = logging.getLogger(__name__)


class LoadedEncoders:
    """Follows the records in a thread, so that no request waits while an encoder is loaded.

    Args:
        records: of the memory.
        load: loads an encoder; the constructor passes on what it raises for the first one.
        first: the active encoder.
    """

    def __init__(
        self, records: EncoderRecords, load: Callable[[EncoderSpec], MicroBatcher], first: EncoderSpec
    ) -> None:
        self._records, self._load = records, load
        self._active = load(first)
        self._loaded = {first.name: self._active}  # replaced and never changed, because other threads read it
        self._closing: list[MicroBatcher] = []
        self._retry_at: dict[str, float] = {}
        self._ended = threading.Event()
        self._follower = threading.Thread(target=self._follow, name="encoders", daemon=True)
        self._follower.start()

    def active(self) -> MicroBatcher:
        """The active encoder; until that is loaded here, the previous one, which has all vectors too."""
        return self._active

    def others(self, name: str) -> list[MicroBatcher]:
        """All encoders that are loaded and not being dropped, except one."""
        return [each for other, each in self._loaded.items() if other != name]

    def get(self, name: str) -> MicroBatcher | None:
        """The encoder with a name, if it is loaded and not being dropped."""
        return self._loaded.get(name)

    def close(self) -> None:
        """Stop the thread and close all encoders; waits for one that is being loaded."""
        self._ended.set()
        self._follower.join()
        for encoder in [*self._loaded.values(), *self._closing]:
            encoder.close()

    def refresh(self) -> None:
        """Follow the records; loads at most one encoder, so that a switch is noticed before the next is loaded.

        Raises:
            Unavailable: the records do not answer.
        """
        known, active = self._records.usable_and_active()
        if active in self._loaded and self._active is not self._loaded[active]:
            self._active = self._loaded[active]
            log.info("classifying with %s from now on", active)
        for encoder in self._closing:  # every thread that got it before the last refresh has called it by now
            encoder.close()
        gone = [name for name in self._loaded if name not in known]
        self._closing = [self._loaded[name] for name in gone if self._loaded[name] is not self._active]
        self._loaded = {name: each for name, each in self._loaded.items() if each not in self._closing}
        missing = sorted(known.keys() - self._loaded.keys(), key=lambda name: name != active)
        if due := next((name for name in missing if time.monotonic() >= self._retry_at.get(name, 0)), None):
            self._add(known[due])

    def _add(self, spec: EncoderSpec) -> None:
        try:
            loaded = self._load(spec)
        except Exception as error:  # noqa: BLE001 - the process continues with the loaded encoders
            reason = error.message if isinstance(error, VisualMemoryError) else kind(error)
            log.error(  # noqa: TRY400 - the message is complete
                "%s cannot be loaded, and is tried again later: %s", spec.name, reason
            )
            self._retry_at[spec.name] = time.monotonic() + RETRY_SECONDS
            return
        self._loaded = {**self._loaded, spec.name: loaded}
        log.info("loaded %s", spec.name)

    def _follow(self) -> None:
        answered = True
        while not self._ended.wait(POLL_SECONDS):
            try:
                self.refresh()
                answered = True
            except Unavailable as error:
                if answered:
                    log.warning("the encoders' records cannot be read, and are tried again: %s", kind(error))
                answered = False
            except Exception:
                log.exception("the encoders' records could not be followed")
