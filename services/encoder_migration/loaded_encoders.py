"""The encoders of a process: each is loaded before it may be switched to, and let go of when it is dropped."""

import logging
import threading
import time
from collections.abc import Callable

from visual_memory.schemas.encoder import EncoderSpec
from visual_memory.schemas.errors import Unavailable, VisualMemoryError
from visual_memory.services.encoder_migration.encoder_records import EncoderRecords
from visual_memory.services.encoding.micro_batcher import MicroBatcher
from visual_memory.services.infrastructure.observability.json_logs import kind

LOOK_SECONDS = 1.0
"""How often the records are looked at: a switch is followed, and what is dropped let go of, within about as long."""
RETRY_SECONDS = 60.0
"""How long after an encoder could not be loaded it is tried again."""

log = logging.getLogger(__name__)


class LoadedEncoders:
    """Follows the records in a thread of its own, so that no request waits for an encoder that is being loaded.

    Args:
        records: of the memory.
        load: loads an encoder; whatever it raises for the first one, the constructor raises.
        first: the active one.
    """

    def __init__(
        self, records: EncoderRecords, load: Callable[[EncoderSpec], MicroBatcher], first: EncoderSpec
    ) -> None:
        self._records, self._load = records, load
        self._active = load(first)
        self._held = {first.name: self._active}  # never changed, but replaced: others read it meanwhile
        self._leaving: list[MicroBatcher] = []
        self._retry_at: dict[str, float] = {}
        self._ended = threading.Event()
        self._follower = threading.Thread(target=self._follow, name="encoders", daemon=True)
        self._follower.start()

    def active(self) -> MicroBatcher:
        """The encoder that classifies; while that is not loaded here, the one of before, which has all vectors too."""
        return self._active

    def beside(self, name: str) -> list[MicroBatcher]:
        """All that are loaded and not being dropped, but for one."""
        return [each for other, each in self._held.items() if other != name]

    def held(self, name: str) -> MicroBatcher | None:
        """The encoder of a name, where it is loaded and not being dropped."""
        return self._held.get(name)

    def close(self) -> None:
        """Stop following, and close all; waits for one that is being loaded."""
        self._ended.set()
        self._follower.join()
        for encoder in [*self._held.values(), *self._leaving]:
            encoder.close()

    def look(self) -> None:
        """Do what the records say; at most one encoder is loaded, so that a switch is seen between two.

        Raises:
            Unavailable: the records do not answer.
        """
        known, active = self._records.usable_and_active()
        if active in self._held and self._active is not self._held[active]:
            self._active = self._held[active]
            log.info("classifying with %s from now on", active)
        for encoder in self._leaving:  # whoever took it before the last look has begun by now
            encoder.close()
        gone = [name for name in self._held if name not in known]
        self._leaving = [self._held[name] for name in gone if self._held[name] is not self._active]
        self._held = {name: each for name, each in self._held.items() if each not in self._leaving}
        wanted = sorted(known.keys() - self._held.keys(), key=lambda name: name != active)
        if due := next((name for name in wanted if time.monotonic() >= self._retry_at.get(name, 0)), None):
            self._add(known[due])

    def _add(self, spec: EncoderSpec) -> None:
        try:
            loaded = self._load(spec)
        except Exception as error:  # noqa: BLE001 - the process goes on with those that it has
            said = error.message if isinstance(error, VisualMemoryError) else kind(error)
            log.error("%s cannot be loaded, and is tried again later: %s", spec.name, said)  # noqa: TRY400 - it says all
            self._retry_at[spec.name] = time.monotonic() + RETRY_SECONDS
            return
        self._held = {**self._held, spec.name: loaded}
        log.info("loaded %s", spec.name)

    def _follow(self) -> None:
        answered = True
        while not self._ended.wait(LOOK_SECONDS):
            try:
                self.look()
                answered = True
            except Unavailable as error:
                if answered:
                    log.warning("the encoders' records are looked at later: %s", kind(error))
                answered = False
            except Exception:
                log.exception("the encoders' records could not be followed")
