"""Store judgements, decide which one is valid, and void those that used removed images.

Whatever is computed from a tenant's images depends on each of them. Before its receipt is issued, a removal must remove
its images from the stored judgement, and also from one that is being computed from images read before they were
deleted. Therefore a pass registers before it reads, and its judgement is valid only while the registration exists. A
removal deletes all registrations after it has deleted its points: a pass that read any of them can never store a valid
judgement, and a pass that registers later reads none of them. In place of the valid judgement, the removal stores one
without the removed images.

Each judgement belongs to one encoder, and is valid when that encoder classifies. Judgements of other encoders are kept
until a removal; the removal repairs only the one of the encoder that classifies.

The input of a judgement is stored as a file with the name of its registration, and is valid as long as that exists.
"""

import logging
import uuid
import zipfile
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from hashlib import sha256

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, update

from visual_memory.schemas.errors import NotFound
from visual_memory.schemas.judgement import Judgement
from visual_memory.services.curation.judgement.judgement_input import JudgementInput
from visual_memory.services.curation.judgement.judgement_last_used import JudgementUses
from visual_memory.services.infrastructure.observability.json_logs import kind
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.tables import judgements
from visual_memory.services.infrastructure.storage.blob_store import BlobStore
from visual_memory.services.infrastructure.task_queue.job_records import OwnedJob

MAX_CACHED = 4
"""Judgements cached per process; one of 100,000 images takes about 30 MB."""
TIME_FORMAT = "%Y%m%d%H%M%S%f"
TIME_LENGTH = 20
ENCODER_DIGITS = 8
"""Hexadecimal digits at the end of an id that identify the encoder; older ids have none."""
BATCH = 500

log = logging.getLogger(__name__)


class StoredJudgements:
    """The judgements of every tenant by one encoder's vectors; removals reach those of other encoders too.

    Args:
        database: the records' database.
        images: stores the inputs of judgements, as ``TENANT/ID``.
        encoder: the name of the encoder whose vectors are compared.

    Attributes:
        encoder: as given.
        uses: which judgements were read.
    """

    def __init__(self, database: Database, images: BlobStore, encoder: str) -> None:
        self.encoder = encoder
        self.uses = JudgementUses(database, encoder)
        self._database = database
        self._images = images
        self._load = lru_cache(MAX_CACHED)(self._read)  # the judgement of an id never changes

    def register(self, tenant: str) -> str:
        """Register a pass that has read nothing yet; returns the id of its judgement, greater than all earlier ids."""
        digest = sha256(self.encoder.encode()).hexdigest()[:ENCODER_DIGITS]
        with self._database.write(urgent=True) as connection:
            self._database.serial(connection, f"judgements:{tenant}")
            moment = self._database.moment(connection)
            latest = connection.execute(select(func.max(judgements.c.id)).where(_of(tenant))).scalar_one() or ""
            if latest[:TIME_LENGTH] >= f"{moment:{TIME_FORMAT}}":  # the clock was set back
                after = datetime.strptime(f"{latest[:TIME_LENGTH]}+0000", f"{TIME_FORMAT}%z")
                moment = after + timedelta(microseconds=1)
            registration = f"{moment:{TIME_FORMAT}}-{uuid.uuid4().hex[:8]}-{digest}"
            connection.execute(insert(judgements).values(tenant=tenant, id=registration, encoder=self.encoder))
        return registration

    def is_valid(self, tenant: str, registration: str) -> bool:
        """Whether a registration still exists, that is, no removal voided it."""
        query = select(judgements.c.id).where(_of(tenant), judgements.c.id == registration)
        with self._database.read() as connection:
            return connection.execute(query).first() is not None

    def store(self, tenant: str, judgement: Judgement, images: JudgementInput, owner: OwnedJob | None = None) -> bool:
        """Store a judgement in place of this encoder's earlier ones; False if a removal voided it.

        The use of the earlier one is deleted: a use of this one is recorded anew.

        Args:
            tenant: the tenant.
            judgement: its id is that of a registration.
            images: its input.
            owner: the job that computed it; nothing is stored if another worker owns the job by now.

        Raises:
            Stopped: another worker owns the job.
        """
        earlier = (judgements.c.encoder == self.encoder) & (judgements.c.id < judgement.id)
        return self._put(tenant, judgement, images, earlier, owner, clear_uses=True)

    def replace(self, tenant: str, judgement: Judgement, images: JudgementInput) -> bool:
        """Store a judgement that a removal repaired, and void all others and all passes that are running.

        Returns:
            False if another removal intervened: start again with the judgement that is valid then.
        """
        return self._put(tenant, judgement, images, judgements.c.id != judgement.id)

    def current(self, tenant: str) -> Judgement | None:
        """The latest valid judgement, or None. Costs one query; a body is read once per process.

        A judgement that cannot be parsed counts as none.
        """
        finished = (judgements.c.encoder == self.encoder) & judgements.c.body.is_not(None)
        with self._database.read() as connection:
            latest = connection.execute(select(func.max(judgements.c.id)).where(_of(tenant), finished)).scalar_one()
        try:
            return None if latest is None else self._load(tenant, latest)
        except NotFound:  # it was voided between the two queries
            return None

    def exists_any(self, tenant: str) -> bool:
        """Whether there is a valid judgement by any encoder."""
        query = select(judgements.c.id).where(_of(tenant), judgements.c.body.is_not(None)).limit(1)
        with self._database.read() as connection:
            return connection.execute(query).first() is not None

    def used(self, tenant: str) -> Judgement | None:
        """The latest valid judgement, or None; records that it was read."""
        judgement = self.current(tenant)
        self.uses.record(tenant, "" if judgement is None else judgement.id)
        return judgement

    def input_of(self, tenant: str, judgement: Judgement) -> JudgementInput | None:
        """The input of a judgement; None if it was voided, or made before inputs were stored."""
        try:
            return JudgementInput.from_bytes(self._images.read(_key(tenant, judgement.id)))
        except NotFound:
            return None
        except (ValueError, KeyError, zipfile.BadZipFile):
            log.exception("what a judgement was made of cannot be read: the memory is judged anew")
            return None

    def void(self, tenant: str) -> None:
        """Void all judgements of a tenant, by any encoder, and all running passes; then delete their inputs."""
        self.void_all_but(tenant, "")

    def void_all_but(self, tenant: str, spared: str) -> None:
        """Void all judgements of a tenant but one, by any encoder, and all running passes."""
        with self._database.write(urgent=True) as connection:
            self._database.serial(connection, f"judgements:{tenant}")
            _delete(connection, tenant, judgements.c.id != spared)
        self._delete_unregistered(tenant)

    def delete_orphans(self, before: datetime, _since: datetime | None = None) -> int:
        """Delete the files of killed passes that a removal had voided; returns their number."""
        deleted = sum(self._delete_unregistered(tenant) for tenant in self._images.top_folders())
        return deleted + self._images.delete_temporary_files(before)

    def delete_all(self) -> None:
        """Delete this encoder's judgements of every tenant, and their uses, because the encoder is dropped."""
        with self._database.write(urgent=True) as connection:
            self.uses.clear_all(connection)
            ours = delete(judgements).where(judgements.c.encoder == self.encoder)
            deleted = connection.execute(ours.returning(judgements.c.tenant, judgements.c.id)).all()
        self._images.delete(_key(row.tenant, row.id) for row in deleted)

    def _put(
        self,
        tenant: str,
        judgement: Judgement,
        images: JudgementInput,
        instead_of: ColumnElement[bool],
        owner: OwnedJob | None = None,
        *,
        clear_uses: bool = False,
    ) -> bool:
        """Write a judgement and delete others, in one transaction; returns whether it was still valid."""
        key, stored = _key(tenant, judgement.id), False
        self._images.write(key, images.to_bytes())
        try:
            with self._database.write(urgent=True) as connection:
                self._database.serial(connection, f"judgements:{tenant}")
                if owner is not None:
                    owner.check(connection)
                this = _of(tenant) & (judgements.c.id == judgement.id)
                written = update(judgements).where(this).values(body=judgement.model_dump_json())
                if connection.execute(written).rowcount == 1:
                    stored, deleted = True, _delete(connection, tenant, instead_of)
                    if clear_uses:
                        self.uses.clear(connection, tenant)
        finally:
            if not stored:
                self._images.delete([key])
        if stored:
            self._images.delete(_key(tenant, each) for each in deleted)
        return stored

    def _delete_unregistered(self, tenant: str) -> int:
        """Delete a tenant's files that have no registration; returns their number."""
        keys, deleted = self._images.list(f"{tenant}/"), 0
        for start in range(0, len(keys), BATCH):
            some = {key.rpartition("/")[2]: key for key in keys[start : start + BATCH]}
            query = select(judgements.c.id).where(_of(tenant), judgements.c.id.in_(some))
            with self._database.read() as connection:
                registered = set(connection.execute(query).scalars())
            deleted += self._images.delete(key for name, key in some.items() if name not in registered)
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
    deleted = delete(judgements).where(_of(tenant), which).returning(judgements.c.id)
    return connection.execute(deleted).scalars().all()


def _key(tenant: str, registration: str) -> str:
    return f"{tenant}/{registration}"
