"""The records of a memory's encoders: which are known, which one is active, how they are filled, which are dropped.

They say what is to be; which images have an encoder's vectors is read from the points themselves. What is written is
one record at a time, and `EncoderRecords.switch` is one replaced record, so whoever reads meets the encoder of before
or the new one, and never a mixture.
"""

from hashlib import sha256

from schemas.encoder import ActiveEncoder, EncoderSpec, FillSettings
from schemas.errors import Conflict, NotFound
from schemas.image import now
from services.memory.ledger import Ledger

_KNOWN, _FILL, _DROPPING = "encoders/known/", "encoders/fill/", "encoders/dropping/"
_ACTIVE = "encoders/active"


class EncoderRecords:
    """The encoders of a memory, in the ledger that all machines share.

    Every method raises `schemas.errors.Unavailable` where the ledger does not answer.

    Args:
        ledger: keeps them, under ``encoders/``; by a digest of the name, which may be a user's text.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def add(self, spec: EncoderSpec) -> bool:
        """Make an encoder known; False where one of its name is. Of several who add it at once, one does."""
        return self._ledger.create(_key(_KNOWN, spec.name), spec.model_dump(mode="json"))

    def known(self) -> dict[str, EncoderSpec]:
        """Every encoder by its name, those that are being dropped too; the first that was added first."""
        records = self._ledger.get_some(self._ledger.list(_KNOWN))
        specs = (EncoderSpec.model_validate(record) for _, record in records)
        return {spec.name: spec for spec in sorted(specs, key=lambda spec: (spec.added_at, spec.name))}

    def get(self, name: str) -> EncoderSpec:
        """The encoder of a name.

        Raises:
            NotFound: the memory knows none; the sentence names those that it knows.
        """
        try:
            return EncoderSpec.model_validate(self._ledger.get(_key(_KNOWN, name)))
        except NotFound:
            names = ", ".join(self.known()) or "none yet"
            raise NotFound(f"this memory has no encoder {name!r}; it has: {names}") from None

    def usable(self, name: str) -> EncoderSpec | None:
        """The encoder of a name; None where the memory knows none, or drops it."""
        return None if name in self.dropping() else self.known().get(name)

    def active(self) -> ActiveEncoder | None:
        """The encoder that classifies; None before the first."""
        try:
            return ActiveEncoder.model_validate(self._ledger.get(_ACTIVE))
        except NotFound:
            return None

    def before(self) -> str | None:
        """The name of the encoder that classified before the active one; None where it was dropped since."""
        active = self.active()
        spec = self.known().get(active.before) if active and active.before else None
        return spec.name if active and spec and spec.added_at <= active.since else None

    def create_first(self, spec: EncoderSpec) -> ActiveEncoder:
        """Make an encoder known and active where none is; of several who do so at once, one does.

        Returns:
            The one that is active now, which may be another's.
        """
        added = self.add(spec)
        first = ActiveEncoder(name=spec.name, since=now())
        if self._ledger.create(_ACTIVE, first.model_dump(mode="json")):
            return first
        active = ActiveEncoder.model_validate(self._ledger.get(_ACTIVE))
        if added and active.name != spec.name:
            self.delete(spec.name)  # nobody came to use it
        return active

    def switch(self, name: str) -> ActiveEncoder:
        """Let an encoder classify from now on; one record is replaced. Where it does so already, nothing changes.

        Raises:
            NotFound: the memory knows no such encoder.
            Conflict: it is being dropped.
        """
        self.get(name)
        if name in self.dropping():
            raise Conflict(f"encoder {name} is being dropped: add it again when that is done")
        active = self.active()
        if active and active.name == name:
            return active
        switched = ActiveEncoder(name=name, before=active.name if active else None, since=now())
        self._ledger.put(_ACTIVE, switched.model_dump(mode="json"))
        return switched

    def fill(self, name: str) -> FillSettings:
        """How an encoder is filled: as was set, else without a pause."""
        try:
            return FillSettings.model_validate(self._ledger.get(_key(_FILL, name)))
        except NotFound:
            return FillSettings()

    def set_fill(self, name: str, fill: FillSettings) -> None:
        """Set how an encoder is filled; workers follow within seconds.

        Raises:
            NotFound: the memory knows no such encoder.
        """
        self.get(name)
        self._ledger.put(_key(_FILL, name), fill.model_dump(mode="json"))

    def begin_drop(self, name: str) -> None:
        """Note that an encoder is being dropped, so that every process lets go of it, and a crash does not keep it.

        A switch to it at the same moment may win after all: whoever drops it looks at `active` again before the first
        vector goes.

        Raises:
            NotFound: the memory knows no such encoder.
            Conflict: it is the active one.
        """
        self.get(name)
        self._ledger.put(_key(_DROPPING, name), name)
        active = self.active()
        if active and active.name == name:
            self._ledger.delete(_key(_DROPPING, name))
            raise Conflict(f"encoder {name} is the active one: switch to another before it is dropped")

    def keep(self, name: str) -> None:
        """Take `begin_drop` back, before anything of the encoder is gone."""
        self._ledger.delete(_key(_DROPPING, name))

    def dropping(self) -> set[str]:
        """The names of the encoders that are being dropped."""
        return {str(name) for _, name in self._ledger.get_some(self._ledger.list(_DROPPING))}

    def delete(self, name: str) -> None:
        """Delete all records of an encoder; that it was being dropped goes last, so that this can be repeated."""
        for kind in (_FILL, _KNOWN, _DROPPING):
            self._ledger.delete(_key(kind, name))


def _key(kind: str, name: str) -> str:
    return kind + sha256(name.encode()).hexdigest()
