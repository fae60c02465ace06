"""Upgrade a memory automatically to the encoder in the settings, or to the current preprocessing of its own."""

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
    """The use case, called repeatedly: each call does the next step.

    Attributes:
        settings: name an encoder of the memory, or a model.
        is_filled: whether no vectors of the encoder with a name are missing.
    """

    records: EncoderRecords
    settings: EncoderSettings
    identify: Callable[[EncoderSettings], EncoderIdentity]
    add: AddEncoder
    switch: SwitchEncoder
    is_filled: Callable[[str], bool]
    _failed: bool = field(default=False, init=False)
    _target: tuple[EncoderSettings, EncoderIdentity] | None = field(default=None, init=False)

    def __call__(self) -> None:
        """Add the encoder, or switch to it once it is filled; does nothing if that is done, or was reverted.

        There is no automatic switch to an encoder that classified before, because somebody switched away from it. After
        an encoder cannot be loaded, or is no longer known, nothing is tried until the process is restarted.
        """
        if self.settings.upgrade == "auto" and not self._failed:
            try:
                self._step()
            except (EncoderMismatch, EncoderUnusable) as error:
                self._failed = True
                log.error("the memory cannot be upgraded: %s", error.message)  # noqa: TRY400 - the message is complete

    def _step(self) -> None:
        active = self.records.active()
        if active is None:
            return
        known = self.records.known()
        settings, encoder = self.settings, find_by_name(known, self.settings)
        if encoder is None:
            settings, identity = self._identify(known[active.name])
            encoder = find_by_fingerprint(known, identity)
        try:
            if encoder is None:
                added = self.add(settings)
                log.info("the memory is upgraded: %s is added and filled, then switched to", added.name)
                return
            passed_over = (active.name, active.before, *self.records.dropping())
            if encoder.name not in passed_over and self.is_filled(encoder.name):
                self.switch(encoder.name)
                log.info("the memory is upgraded: %s classifies", encoder.name)
        except Conflict as error:  # another worker did it, or pictures arrived meanwhile
            log.info("the upgrade is tried again later: %s", error.message)

    def _identify(self, own: EncoderSpec) -> tuple[EncoderSettings, EncoderIdentity]:
        """The model in the settings, or the memory's own with the current preprocessing; identified once."""
        if self._target is None:
            own_model = {"name": own.model, "pooling": own.pooling, "precision": own.precision}
            settings = self.settings if self.settings.name else self.settings.model_copy(update=own_model)
            self._target = settings, self.identify(settings)
        return self._target
