"""The records of judgements, and which of them counts.

Whatever is computed from a tenant's images depends on each of them, so a removal must take those that it covers out of
it before its receipt, and also out of what is being computed at that moment from images that were read before they
went. So a pass registers before it reads, under ``judgements/TENANT/ID``; its judgement ``judgements/TENANT/ID.found``,
and the images that it was made of, count only while that registration is there. A removal deletes every registration
after its points are gone: a pass that had read any of them can never count, and one that registers later reads none.
Instead of the judgement that counted it leaves one of its own, without the images that are gone. A registration is
created once and never written again, so nothing brings it back.

Under ``judgement_uses/TENANT`` it is noted that somebody asked for what a judgement says, as nothing is judged by
itself that nobody uses.
"""

import logging
import uuid
import zipfile
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import lru_cache

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
LONG_AGO = datetime.min.replace(tzinfo=UTC)
_MOMENT: TypeAdapter[datetime] = TypeAdapter(AwareDatetime)

log = logging.getLogger(__name__)


class Judgements:
    """The judgements of every tenant.

    Args:
        ledger: of the records.
        images: holds what judgements were made of, under ``TENANT/ID``.
    """

    def __init__(self, ledger: Ledger, images: Blobs) -> None:
        self._ledger = ledger
        self._images = images
        self._load = lru_cache(MOST_HELD)(self._read)  # what was found under an id never changes
        self._noted: dict[str, str] = {}

    def register(self, tenant: str) -> str:
        """Register a pass that has read nothing yet; returns the id of its judgement, after all that are there."""
        latest = max(self._ledger.list(_key(tenant, "")), default="").removeprefix(_key(tenant, ""))
        moment = now()
        if latest[:20] >= f"{moment:{STAMP}}":  # by the clock of another machine
            moment = datetime.strptime(f"{latest[:20]}+0000", f"{STAMP}%z") + timedelta(microseconds=1)
        registration = f"{moment:{STAMP}}-{uuid.uuid4().hex[:8]}"
        self._ledger.create(_key(tenant, registration), True)
        return registration

    def is_valid(self, tenant: str, registration: str) -> bool:
        """Whether no removal voided it since it was registered."""
        return self._ledger.exists(_key(tenant, registration))

    def keep(self, tenant: str, judgement: Judgement, images: JudgedImages) -> bool:
        """Let a judgement count instead of those before it; False where a removal came in between."""
        self._write(tenant, judgement, images)
        if not self.is_valid(tenant, judgement.id):
            self._delete_files(tenant, judgement.id)
            return False
        for registration in self._registrations(tenant):
            if registration < judgement.id:
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
        keys = set(self._ledger.list(_key(tenant, "")))
        valid = [key for key in keys if key + FOUND in keys]
        try:
            return self._load(max(valid)) if valid else None
        except NotFound:  # it was voided at this moment
            return None

    def used(self, tenant: str) -> Judgement | None:
        """The same for somebody who asks what it says: it is noted that somebody does."""
        judgement = self.current(tenant)
        named = "" if judgement is None else judgement.id
        if self._noted.get(tenant) != named:
            with suppress(VisualMemoryError):  # a full disk or a silent store costs the caller nothing
                self._ledger.create(f"{USES}{tenant}", now().isoformat())
                self._noted[tenant] = named
        return judgement

    def uses(self) -> dict[str, datetime]:
        """The tenants whose judgements somebody asked for since they were made, and when first.

        A note that cannot be read says still that somebody did.
        """
        found: dict[str, datetime] = {}
        for key, data in self._ledger.read_some(self._ledger.list(USES)):
            try:
                found[key.removeprefix(USES)] = _MOMENT.validate_json(data)
            except ValidationError:
                found[key.removeprefix(USES)] = LONG_AGO
        return found

    def forget_uses(self, tenant: str) -> None:
        """A new judgement is about to count: whoever asks for that is noted again, as it has another id."""
        self._ledger.delete(f"{USES}{tenant}")

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
        """Let none of a tenant's judgements count, nor any that is being made; then delete what they say."""
        self.void_all_but(tenant, "")

    def void_all_but(self, tenant: str, spared: str) -> None:
        """Let none but one count, nor any that is being made."""
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
