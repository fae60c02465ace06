"""The records of a memory's encoders: which are known, which is active, how they are filled, which are dropped.

They describe the intended state; which images have an encoder's vectors is read from the points. A switch changes one
row, so that a reader sees either the previous encoder or the new one.
"""

from collections.abc import Iterable

from sqlalchemy import Connection, delete, literal, select, update

from visual_memory.schemas.encoder import ActiveEncoder, EncoderSpec, FillSettings
from visual_memory.schemas.errors import Conflict, NotFound
from visual_memory.schemas.moments import now
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.tables import active_encoder, encoders

ONLY = 1


class EncoderRecords:
    """The encoders of a memory, in the database that all machines share.

    Every method raises `schemas.errors.Unavailable` if the database does not answer.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, spec: EncoderSpec) -> bool:
        """Add an encoder; False if there is one with its name. Of concurrent calls, one succeeds."""
        with self._database.write() as connection:
            return self._add(connection, spec)

    def known(self) -> dict[str, EncoderSpec]:
        """Every encoder by its name, including those that are being dropped, in the order of their addition."""
        with self._database.read() as connection:
            found = connection.execute(select(encoders.c.spec)).scalars().all()
        specs = [EncoderSpec.model_validate(spec) for spec in found]
        return {spec.name: spec for spec in sorted(specs, key=lambda spec: (spec.added_at, spec.name))}

    def get(self, name: str) -> EncoderSpec:
        """The encoder with a name.

        Raises:
            NotFound: there is none; the message lists the known ones.
        """
        known = self.known()
        if name not in known:
            raise _unknown(name, known)
        return known[name]

    def usable(self, name: str) -> EncoderSpec | None:
        """The encoder with a name; None if there is none, or it is being dropped."""
        with self._database.read() as connection:
            spec = connection.execute(
                select(encoders.c.spec).where(encoders.c.name == name, ~encoders.c.dropping)
            ).scalar_one_or_none()
        return None if spec is None else EncoderSpec.model_validate(spec)

    def active(self) -> ActiveEncoder | None:
        """The active encoder, which classifies; None if there is none yet."""
        with self._database.read() as connection:
            return _active(connection)

    def usable_and_active(self) -> tuple[dict[str, EncoderSpec], str | None]:
        """Every encoder that is not being dropped, and the name of the active one, from one query."""
        both = encoders.outerjoin(active_encoder, active_encoder.c.only == literal(ONLY))
        query = select(encoders.c.spec, encoders.c.dropping, active_encoder.c.name).select_from(both)
        with self._database.read() as connection:
            found = connection.execute(query).all()
        specs = [EncoderSpec.model_validate(row.spec) for row in found if not row.dropping]
        return {spec.name: spec for spec in specs}, found[0].name if found else None

    def previous(self) -> str | None:
        """The name of the encoder that was active before the present one; None if it was dropped since."""
        active = self.active()
        spec = self.known().get(active.before) if active and active.before else None
        return spec.name if active and spec and spec.added_at <= active.since else None

    def create_first(self, spec: EncoderSpec) -> ActiveEncoder:
        """Add and activate an encoder if none is active; of concurrent calls, one succeeds.

        Returns:
            The active encoder, which may be another caller's; then nothing is added.
        """
        first = ActiveEncoder(name=spec.name, since=now())
        with self._database.write() as connection:
            insert = self._database.insert(active_encoder).values(only=ONLY, **dict(first))
            if connection.execute(insert.on_conflict_do_nothing()).rowcount == 1:
                self._add(connection, spec)
                return first
            return _active(connection) or first

    def switch(self, name: str) -> ActiveEncoder:
        """Activate an encoder by changing one row; does nothing if it is active.

        Raises:
            NotFound: there is no such encoder.
            Conflict: it is being dropped.
        """
        with self._database.write() as connection:
            if self._lock(connection, name):
                raise Conflict(f"encoder {name} is being dropped: add it again when that is done")
            active = _active(connection)
            if active and active.name == name:
                return active
            switched = ActiveEncoder(name=name, before=active.name if active else None, since=now())
            insert = self._database.insert(active_encoder).values(only=ONLY, **dict(switched))
            connection.execute(insert.on_conflict_do_update(index_elements=["only"], set_=dict(switched)))
        return switched

    def fill(self, name: str) -> FillSettings:
        """How an encoder is filled; by default without pauses."""
        with self._database.read() as connection:
            fill = connection.execute(select(encoders.c.fill).where(encoders.c.name == name)).scalar_one_or_none()
        return FillSettings() if fill is None else FillSettings.model_validate(fill)

    def set_fill(self, name: str, fill: FillSettings) -> None:
        """Set how an encoder is filled; workers follow within seconds.

        Raises:
            NotFound: there is no such encoder.
        """
        with self._database.write() as connection:
            self._lock(connection, name)
            self._set(connection, name, fill=fill.model_dump(mode="json"))

    def begin_drop(self, name: str) -> None:
        """Record that an encoder is being dropped: every process stops using it, and a crash does not end the drop.

        Raises:
            NotFound: there is no such encoder.
            Conflict: it is the active one.
        """
        with self._database.write(urgent=True) as connection:
            self._lock(connection, name)
            active = _active(connection)
            if active and active.name == name:
                raise Conflict(f"encoder {name} is the active one: switch to another before it is dropped")
            self._set(connection, name, dropping=True)

    def cancel_drop(self, name: str) -> None:
        """Undo `begin_drop`, before anything of the encoder is deleted."""
        with self._database.write(urgent=True) as connection:
            self._set(connection, name, dropping=False)

    def dropping(self) -> set[str]:
        """The names of the encoders that are being dropped."""
        with self._database.read() as connection:
            return set(connection.execute(select(encoders.c.name).where(encoders.c.dropping)).scalars())

    def delete(self, name: str) -> None:
        """Delete all records of an encoder."""
        with self._database.write(urgent=True) as connection:
            connection.execute(delete(encoders).where(encoders.c.name == name))

    def _add(self, connection: Connection, spec: EncoderSpec) -> bool:
        insert = self._database.insert(encoders).values(name=spec.name, spec=spec.model_dump(mode="json"))
        return connection.execute(insert.on_conflict_do_nothing()).rowcount == 1

    def _lock(self, connection: Connection, name: str) -> bool:
        """Whether an encoder is being dropped; locks its row against changes until the transaction ends."""
        row = select(encoders.c.dropping).where(encoders.c.name == name).with_for_update()
        dropping = connection.execute(row).scalar_one_or_none()
        if dropping is None:
            raise _unknown(name, sorted(connection.execute(select(encoders.c.name)).scalars()))
        return bool(dropping)

    def _set(self, connection: Connection, name: str, **values: object) -> None:
        connection.execute(update(encoders).where(encoders.c.name == name).values(**values))


def _active(connection: Connection) -> ActiveEncoder | None:
    found = connection.execute(select(active_encoder).where(active_encoder.c.only == literal(ONLY))).mappings().first()
    return None if found is None else ActiveEncoder(**{name: found[name] for name in ActiveEncoder.model_fields})


def _unknown(name: str, known: Iterable[str]) -> NotFound:
    names = ", ".join(known)
    return NotFound(f"this memory has no encoder {name!r}; it has: {names or 'none yet'}")
