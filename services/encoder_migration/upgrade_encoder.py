"""Upgrade: a memory moves by itself to the encoder that the settings name, or to today's preprocessing of its own."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from visual_memory.schemas.encoder import EncoderIdentity, EncoderSpec
from visual_memory.schemas.errors import Conflict, EncoderMismatch
from visual_memory.services.encoder_migration.active_encoder import find_by_fingerprint, find_by_name
from visual_memory.services.encoder_migration.add_encoder import AddEncoder
from visual_memory.services.encoder_migration.encoder_records import EncoderRecords
from visual_memory.services.encoder_migration.switch_encoder import SwitchEncoder
from visual_memory.services.encoding.encoder_contract import EncoderUnusable
from visual_memory.services.settings import EncoderSettings

log = logging.getLogger(__name__)


@dataclass
class UpgradeEncoder:
    """The use case, with the parts that it needs: called again and again, each time it does the next step.

    Attributes:
        asked: what the settings name: an encoder of the memory, or a model.
        is_filled: whether nothing is left to fill of the encoder of a name.
    """

    records: EncoderRecords
    asked: EncoderSettings
    identify: Callable[[EncoderSettings], EncoderIdentity]
    add: AddEncoder
    switch: SwitchEncoder
    is_filled: Callable[[str], bool]
    _failed: bool = field(default=False, init=False)
    _wanted: tuple[EncoderSettings, EncoderIdentity] | None = field(default=None, init=False)

    def __call__(self) -> None:
        """Add the encoder, or switch to it once it is filled; nothing where that is done, or was taken back.

        Whoever switches back has decided otherwise: an encoder that classified before is not switched to by itself. One
        that cannot be loaded, or is no longer known, is left alone until the process starts anew.
        """
        if self.asked.upgrade == "auto" and not self._failed:
            try:
                self._step()
            except (EncoderMismatch, EncoderUnusable) as error:
                self._failed = True
                log.error("the memory cannot be upgraded: %s", error.message)  # noqa: TRY400 - it says all

    def _step(self) -> None:
        active = self.records.active()
        if active is None:
            return
        known = self.records.known()
        asked, held = self.asked, find_by_name(known, self.asked)
        if held is None:
            asked, wanted = self._identified(known[active.name])
            held = find_by_fingerprint(known, wanted)
        try:
            if held is None:
                added = self.add(asked)
                log.info("the memory is upgraded: %s is added and filled, then switched to", added.name)
            elif held.name not in (active.name, active.before, *self.records.dropping()) and self.is_filled(held.name):
                self.switch(held.name)
                log.info("the memory is upgraded: %s classifies", held.name)
        except Conflict as error:  # another worker did it, or pictures came at this moment
            log.info("the upgrade goes on later: %s", error.message)

    def _identified(self, own: EncoderSpec) -> tuple[EncoderSettings, EncoderIdentity]:
        """The model that the settings name, else the memory's own with today's preprocessing; found out once."""
        if self._wanted is None:
            unnamed = {"name": own.model, "pooling": own.pooling, "precision": own.precision}
            asked = self.asked if self.asked.name else self.asked.model_copy(update=unnamed)
            self._wanted = asked, self.identify(asked)
        return self._wanted
