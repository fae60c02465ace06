"""The records of judgements, and which of them counts.

Whatever is computed from a tenant's images depends on each of them, so a removal must take those that it covers out of
it before its receipt, and also out of what is being computed at that moment from images that were read before they
went. So a pass registers before it reads; its judgement, and the images that it was made of, count only while that
registration is there. A removal deletes every registration after its points are gone: a pass that had read any of them
can never count, and one that registers later reads none. Instead of the judgement that counted it leaves one of its
own, without the images that are gone.

Each judgement is of one encoder's vectors, and counts where that encoder classifies. Those of other encoders stand
beside it until a removal: only the judgement of the encoder that classifies is repaired then.

It is also noted that somebody asked for what a tenant's judgement says, as nothing is judged by itself that nobody
uses. What a judgement was made of is a file, which counts while there is a registration of its name.
"""

import logging
import uuid
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import lru_cache
from hashlib import sha256

from sqlalchemy import ColumnElement, Connection, Delete, delete, func, insert, select, update

from visual_memory.schemas.errors import NotFound, VisualMemoryError
from visual_memory.schemas.judgement import Judgement
from visual_memory.services.curation.judgement.judgement_input import JudgementInput
from visual_memory.services.infrastructure.observability.json_logs import kind
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.tables import judgement_uses, judgements
from visual_memory.services.infrastructure.storage.blob_store import BlobStore
from visual_memory.services.infrastructure.task_queue.job_records import OwnedJob

MAX_HELD = 4
"""Judgements of so many tenants are held by each process; one of 100,000 images takes some 30 MB."""
STAMP = "%Y%m%d%H%M%S%f"
STAMP_LETTERS = 20
DIGEST = 8
"""Hexadecimal digits at the end of an id that tell whose vectors were compared; older ids have none."""
AT_ONCE = 500

log = logging.getLogger(__name__)


class StoredJudgements:
    """The judgements of every tenant by one encoder's vectors; removals reach those by all others too.

    Args:
        database: of the records.
        images: holds what judgements were made of, under ``TENANT/ID``.
        encoder: whose vectors are compared.

    Attributes:
        encoder: as given.
    """

    def __init__(self, database: Database, images: BlobStore, encoder: str) -> None:
        self.encoder = encoder
        self._database = database
        self._images = images
        self._load = lru_cache(MAX_HELD)(self._read)  # what was found under an id never changes
        self._noted: dict[str, str] = {}

    def register(self, tenant: str) -> str:
        """Register a pass that has read nothing yet; returns the id of its judgement, after all that are there."""
        digest = sha256(self.encoder.encode()).hexdigest()[:DIGEST]
        with self._database.write(urgent=True) as connection:
            self._database.serial(connection, f"judgements:{tenant}")
            moment = self._database.moment(connection)
            latest = connection.execute(select(func.max(judgements.c.id)).where(_of(tenant))).scalar_one() or ""
            if latest[:STAMP_LETTERS] >= f"{moment:{STAMP}}":  # by a clock that was set back since
                after = datetime.strptime(f"{latest[:STAMP_LETTERS]}+0000", f"{STAMP}%z")
                moment = after + timedelta(microseconds=1)
            registration = f"{moment:{STAMP}}-{uuid.uuid4().hex[:8]}-{digest}"
            connection.execute(insert(judgements).values(tenant=tenant, id=registration, encoder=self.encoder))
        return registration

    def is_valid(self, tenant: str, registration: str) -> bool:
        """Whether no removal voided it since it was registered."""
        query = select(judgements.c.id).where(_of(tenant), judgements.c.id == registration)
        with self._database.read() as connection:
            return connection.execute(query).first() is not None

    def keep(self, tenant: str, judgement: Judgement, images: JudgementInput, owner: OwnedJob | None = None) -> bool:
        """Let a judgement count instead of this encoder's before it; False where a removal came in between.

        That somebody asked for the one before is forgotten: whoever asks for this one is noted again.

        Args:
            tenant: whose memory was judged.
            judgement: its id is that of a registration.
            images: what it was made of.
            owner: the job that made it; nothing is kept where that is another worker's by now.

        Raises:
            Stopped: it is.
        """
        others = (judgements.c.encoder == self.encoder) & (judgements.c.id < judgement.id)
        uses = delete(judgement_uses).where(self._uses(tenant))
        return self._put(tenant, judgement, images, others, owner, forget_uses=uses)

    def replace(self, tenant: str, judgement: Judgement, images: JudgementInput) -> bool:
        """Let a judgement count, of which a removal took what it covered; none that began before counts afterwards.

        Returns:
            False where another removal came in between: begin anew with what counts then.
        """
        return self._put(tenant, judgement, images, judgements.c.id != judgement.id)

    def current(self, tenant: str) -> Judgement | None:
        """The latest judgement that counts; one look into the records, and what was found is read once per process.

        One that cannot be read counts as none.
        """
        counts = (judgements.c.encoder == self.encoder) & judgements.c.body.is_not(None)
        with self._database.read() as connection:
            latest = connection.execute(select(func.max(judgements.c.id)).where(_of(tenant), counts)).scalar_one()
        try:
            return None if latest is None else self._load(tenant, latest)
        except NotFound:  # it was voided at this moment
            return None

    def any_counts(self, tenant: str) -> bool:
        """Whether there is a judgement by whichever encoder."""
        query = select(judgements.c.id).where(_of(tenant), judgements.c.body.is_not(None)).limit(1)
        with self._database.read() as connection:
            return connection.execute(query).first() is not None

    def used(self, tenant: str) -> Judgement | None:
        """The same for somebody who asks what it says: it is noted that somebody does."""
        judgement = self.current(tenant)
        named = "" if judgement is None else judgement.id
        if self._noted.get(tenant) != named:
            with suppress(VisualMemoryError):  # a full disk or a silent store costs the caller nothing
                self._note_use(tenant)
                self._noted[tenant] = named
        return judgement

    def uses(self) -> dict[str, datetime]:
        """The tenants whose judgements somebody asked for since they were made, and when first."""
        query = select(judgement_uses.c.tenant, judgement_uses.c.at).where(judgement_uses.c.encoder == self.encoder)
        with self._database.read() as connection:
            return {row.tenant: row.at for row in connection.execute(query)}

    def made_of(self, tenant: str, judgement: Judgement) -> JudgementInput | None:
        """The images that a judgement was made of; None where it was voided, or made before they were kept."""
        try:
            return JudgementInput.from_bytes(self._images.read(_blob(tenant, judgement.id)))
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
        with self._database.write(urgent=True) as connection:
            self._database.serial(connection, f"judgements:{tenant}")
            _delete(connection, tenant, judgements.c.id != spared)
        self._delete_nameless(tenant)

    def tidy(self, before: datetime, _since: datetime | None = None) -> int:
        """Delete what a pass left that was killed right after a removal had voided it; returns how much."""
        deleted = sum(self._delete_nameless(tenant) for tenant in self._images.top_folders())
        return deleted + self._images.delete_temporary_files(before)

    def delete_all(self) -> None:
        """Delete this encoder's judgements of every tenant, and who used them: it is dropped."""
        with self._database.write(urgent=True) as connection:
            connection.execute(delete(judgement_uses).where(judgement_uses.c.encoder == self.encoder))
            ours = delete(judgements).where(judgements.c.encoder == self.encoder)
            gone = connection.execute(ours.returning(judgements.c.tenant, judgements.c.id)).all()
        self._images.delete(_blob(row.tenant, row.id) for row in gone)

    def _put(
        self,
        tenant: str,
        judgement: Judgement,
        images: JudgementInput,
        instead_of: ColumnElement[bool],
        owner: OwnedJob | None = None,
        forget_uses: Delete | None = None,
    ) -> bool:
        """Write a judgement and delete others, in one transaction; whether it was valid still."""
        blob, kept = _blob(tenant, judgement.id), False
        self._images.write(blob, images.to_bytes())
        try:
            with self._database.write(urgent=True) as connection:
                self._database.serial(connection, f"judgements:{tenant}")
                if owner is not None:
                    owner.check(connection)
                ours = _of(tenant) & (judgements.c.id == judgement.id)
                written = update(judgements).where(ours).values(body=judgement.model_dump_json())
                if connection.execute(written).rowcount == 1:
                    kept, gone = True, _delete(connection, tenant, instead_of)
                    if forget_uses is not None:
                        connection.execute(forget_uses)
        finally:
            if not kept:
                self._images.delete([blob])
        if kept:
            self._images.delete(_blob(tenant, each) for each in gone)
        return kept

    def _note_use(self, tenant: str) -> None:
        with self._database.write() as connection:
            row = {"tenant": tenant, "encoder": self.encoder, "at": self._database.moment(connection)}
            connection.execute(self._database.insert(judgement_uses).values(row).on_conflict_do_nothing())

    def _uses(self, tenant: str) -> ColumnElement[bool]:
        return (judgement_uses.c.tenant == tenant) & (judgement_uses.c.encoder == self.encoder)

    def _delete_nameless(self, tenant: str) -> int:
        """Delete the files of a tenant that no registration is named like."""
        keys, deleted = self._images.list(f"{tenant}/"), 0
        for start in range(0, len(keys), AT_ONCE):
            some = {key.rpartition("/")[2]: key for key in keys[start : start + AT_ONCE]}
            query = select(judgements.c.id).where(_of(tenant), judgements.c.id.in_(some))
            with self._database.read() as connection:
                held = set(connection.execute(query).scalars())
            deleted += self._images.delete(key for name, key in some.items() if name not in held)
        return deleted

    def _read(self, tenant: str, registration: str) -> Judgement | None:
        query = select(judgements.c.body).where(_of(tenant), judgements.c.id == registration)
        with self._database.read() as connection:
            body = connection.execute(query).scalar_one_or_none()
        if body is None:
            raise NotFound(f"judgement {registration} is gone")
        try:
            return Judgement.model_validate_json(body)
        except ValueError as error:
            log.error("judgement %s cannot be read, and the memory is judged anew: %s", registration, kind(error))  # noqa: TRY400 - no data
            return None


def _of(tenant: str) -> ColumnElement[bool]:
    return judgements.c.tenant == tenant


def _delete(connection: Connection, tenant: str, which: ColumnElement[bool]) -> Sequence[str]:
    gone = delete(judgements).where(_of(tenant), which).returning(judgements.c.id)
    return connection.execute(gone).scalars().all()


def _blob(tenant: str, registration: str) -> str:
    return f"{tenant}/{registration}"
