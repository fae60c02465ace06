"""The records of judgements, and which of them counts.

Whatever is computed from a tenant's images depends on each of them, so a removal must take those that it covers out of
it before its receipt, and also out of what is being computed at that moment from images that were read before they
went. So a pass registers before it reads, under ``judgements/TENANT/ID``; its judgement ``judgements/TENANT/ID.found``,
and the images that it was made of, count only while that registration is there. A removal deletes every registration
after its points are gone: a pass that had read any of them can never count, and one that registers later reads none.
Instead of the judgement that counted it leaves one of its own, without the images that are gone. A registration is
created once and never written again, so nothing brings it back.

Each judgement is of one encoder's vectors, as the end of its id tells, and counts where that encoder classifies. Those
of other encoders stand beside it until a removal: only the judgement of the encoder that classifies is repaired then.

Under ``judgement_uses/`` it is noted that somebody asked for what a tenant's judgement says, as nothing is judged by
itself that nobody uses.
"""

import logging
import uuid
import zipfile
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import sha256

from pydantic import AwareDatetime, TypeAdapter, ValidationError

from schemas.errors import NotFound, VisualMemoryError
from schemas.image import now
from schemas.judgement import Judgement
from services.curation.judged_images import JudgedImages
from services.memory.blobs import Blobs
from services.memory.ledger import Ledger
from services.runtime.logs import kind

RECORDS = "judgements/"
USES = "judgement_uses/"
FOUND = ".found"
MOST_HELD = 4
"""Judgements of so many tenants are held by each process; one of 100,000 images takes some 30 MB."""
STAMP = "%Y%m%d%H%M%S%f"
DIGEST = 8
"""Hexadecimal digits at the end of an id that tell whose vectors were compared; older ids have none."""
MOST_KNOWN = 1000
LONG_AGO = datetime.min.replace(tzinfo=UTC)
_MOMENT: TypeAdapter[datetime] = TypeAdapter(AwareDatetime)

log = logging.getLogger(__name__)


class Judgements:
    """The judgements of every tenant by one encoder's vectors; removals reach those by all others too.

    Args:
        ledger: of the records.
        images: holds what judgements were made of, under ``TENANT/ID``.
        encoder: whose vectors are compared.

    Attributes:
        encoder: as given.
    """

    def __init__(self, ledger: Ledger, images: Blobs, encoder: str) -> None:
        self.encoder = encoder
        self._ledger = ledger
        self._images = images
        self._digest = sha256(encoder.encode()).hexdigest()[:DIGEST]
        self._encoder_of = lru_cache(MOST_KNOWN)(self._read_encoder)
        self._load = lru_cache(MOST_HELD)(self._read)  # what was found under an id never changes
        self._noted: dict[str, str] = {}

    def register(self, tenant: str) -> str:
        """Register a pass that has read nothing yet; returns the id of its judgement, after all that are there."""
        latest = max(self._ledger.list(_key(tenant, "")), default="").removeprefix(_key(tenant, ""))
        moment = now()
        if latest[:20] >= f"{moment:{STAMP}}":  # by the clock of another machine
            moment = datetime.strptime(f"{latest[:20]}+0000", f"{STAMP}%z") + timedelta(microseconds=1)
        registration = f"{moment:{STAMP}}-{uuid.uuid4().hex[:8]}-{self._digest}"
        self._ledger.create(_key(tenant, registration), True)
        return registration

    def is_valid(self, tenant: str, registration: str) -> bool:
        """Whether no removal voided it since it was registered."""
        return self._ledger.exists(_key(tenant, registration))

    def keep(self, tenant: str, judgement: Judgement, images: JudgedImages) -> bool:
        """Let a judgement count instead of this encoder's before it; False where a removal came in between."""
        self._write(tenant, judgement, images)
        if not self.is_valid(tenant, judgement.id):
            self._delete_files(tenant, judgement.id)
            return False
        for registration in self._registrations(tenant):
            if registration < judgement.id and self._is_own(tenant, registration):
                self._delete(tenant, registration)
        return True

    def replace(self, tenant: str, judgement: Judgement, images: JudgedImages) -> bool:
        """Let a judgement count, of which a removal took what it covered; none that began before counts afterwards.

        Returns:
            False where another removal came in between: begin anew with what counts then.
        """
        self._write(tenant, judgement, images)
        if not self.is_valid(tenant, judgement.id):
            self._delete_files(tenant, judgement.id)
            return False
        self.void_all_but(tenant, judgement.id)
        return self.is_valid(tenant, judgement.id)

    def current(self, tenant: str) -> Judgement | None:
        """The latest judgement that counts; one look into the records, and what was found is read once per process.

        One that cannot be read counts as none.
        """
        valid = [each for each in self._valid(tenant) if self._is_own(tenant, each)]
        try:
            return self._load(_key(tenant, max(valid))) if valid else None
        except NotFound:  # it was voided at this moment
            return None

    def any_counts(self, tenant: str) -> bool:
        """Whether there is a judgement by whichever encoder."""
        return bool(self._valid(tenant))

    def used(self, tenant: str) -> Judgement | None:
        """The same for somebody who asks what it says: it is noted that somebody does."""
        judgement = self.current(tenant)
        named = "" if judgement is None else judgement.id
        if self._noted.get(tenant) != named:
            with suppress(VisualMemoryError):  # a full disk or a silent store costs the caller nothing
                self._ledger.create(self._use(tenant), now().isoformat())
                self._noted[tenant] = named
        return judgement

    def uses(self) -> dict[str, datetime]:
        """The tenants whose judgements somebody asked for since they were made, and when first.

        A note that cannot be read says still that somebody did.
        """
        found: dict[str, datetime] = {}
        ours = [key for key in self._ledger.list(USES) if key.partition("=")[2] in ("", self._digest)]
        for key, data in self._ledger.read_some(ours):
            tenant = key.removeprefix(USES).partition("=")[0]
            try:
                moment = _MOMENT.validate_json(data)
            except ValidationError:
                moment = LONG_AGO
            found[tenant] = min(moment, found.get(tenant, moment))
        return found

    def forget_uses(self, tenant: str) -> None:
        """A new judgement is about to count: whoever asks for that is noted again, as it has another id."""
        self._ledger.delete(self._use(tenant))
        self._ledger.delete(f"{USES}{tenant}")  # as it was noted before there were several encoders

    def made_of(self, tenant: str, judgement: Judgement) -> JudgedImages | None:
        """The images that a judgement was made of; None where it was voided, or made before they were kept."""
        try:
            return JudgedImages.from_bytes(self._images.read(_blob(tenant, judgement.id)))
        except NotFound:
            return None
        except (ValueError, KeyError, zipfile.BadZipFile):
            log.exception("what a judgement was made of cannot be read: the memory is judged anew")
            return None

    def void(self, tenant: str) -> None:
        """Let no judgement of a tenant count, by any encoder, nor any that is being made; then delete all they say."""
        self.void_all_but(tenant, "")

    def void_all_but(self, tenant: str, spared: str) -> None:
        """Let none but one count, by whichever encoder, nor any that is being made."""
        for key in self._ledger.list(_key(tenant, "")):
            if key.endswith(FOUND) and key != _key(tenant, spared) + FOUND:
                self._ledger.delete(key.removesuffix(FOUND))
        # The finished ones are gone by now: a pass that begins with one of them was registered before.
        for registration in self._registrations(tenant):
            if registration != spared:
                self._ledger.delete(_key(tenant, registration))
        self._delete_voided(f"{tenant}/")

    def tidy(self, before: datetime, _since: datetime | None = None) -> int:
        """Delete what a pass left that was killed right after a removal had voided it; returns how much."""
        return self._delete_voided("") + self._images.delete_drafts(before)

    def delete_all(self) -> None:
        """Delete this encoder's judgements of every tenant, and who used them: it is dropped."""
        for tenant in {key.removeprefix(RECORDS).split("/")[0] for key in self._ledger.list(RECORDS)}:
            for registration in self._registrations(tenant):
                if self._is_own(tenant, registration):
                    self._delete(tenant, registration)
        for key in self._ledger.list(USES):
            if key.endswith(f"={self._digest}"):
                self._ledger.delete(key)

    def _valid(self, tenant: str) -> list[str]:
        """The ids of the judgements that count, by whichever encoder."""
        keys = set(self._ledger.list(_key(tenant, "")))
        return [key.removeprefix(_key(tenant, "")) for key in keys if key + FOUND in keys]

    def _is_own(self, tenant: str, registration: str) -> bool:
        """Whether it is of this encoder; one whose id does not tell, by what was found."""
        digest = registration.split("-")[2:]
        return digest == [self._digest] if digest else self._encoder_of(_key(tenant, registration)) == self.encoder

    def _read_encoder(self, key: str) -> str:
        try:
            judgement = self._load(key)
        except NotFound:  # a pass that did not end
            return self.encoder
        return self.encoder if judgement is None else judgement.encoder

    def _use(self, tenant: str) -> str:
        return f"{USES}{tenant}={self._digest}"

    def _delete_voided(self, folder: str) -> int:
        found = [key.removesuffix(FOUND) for key in self._ledger.list(RECORDS + folder) if key.endswith(FOUND)]
        voided = [key for key in found if not self._ledger.exists(key)]
        images = [key for key in self._images.list(folder) if not self._ledger.exists(RECORDS + key)]
        return sum(self._ledger.delete(key + FOUND) for key in voided) + self._images.delete(images)

    def _registrations(self, tenant: str) -> list[str]:
        keys = self._ledger.list(_key(tenant, ""))
        return [key.removeprefix(_key(tenant, "")) for key in keys if not key.endswith(FOUND)]

    def _write(self, tenant: str, judgement: Judgement, images: JudgedImages) -> None:
        self._images.write(_blob(tenant, judgement.id), images.to_bytes())
        self._ledger.put(_key(tenant, judgement.id) + FOUND, judgement.model_dump(mode="json"))

    def _delete(self, tenant: str, registration: str) -> None:
        self._ledger.delete(_key(tenant, registration))
        self._delete_files(tenant, registration)

    def _delete_files(self, tenant: str, registration: str) -> None:
        self._ledger.delete(_key(tenant, registration) + FOUND)
        self._images.delete([_blob(tenant, registration)])

    def _read(self, key: str) -> Judgement | None:
        try:
            return Judgement.model_validate(self._ledger.get(key + FOUND))
        except (ValueError, RecursionError) as error:
            log.error("%s cannot be read, and the memory is judged anew: %s", key, kind(error))  # noqa: TRY400 - no data
            return None


def _key(tenant: str, registration: str) -> str:
    return f"{RECORDS}{tenant}/{registration}"


def _blob(tenant: str, registration: str) -> str:
    return f"{tenant}/{registration}"
