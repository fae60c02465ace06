"""Normalise the text of points that earlier versions wrote (Unicode NFC), once, before any request is served.

Filters are normalised, so they would not match text in another form, and a removal would miss it.
"""

import logging
import time
from collections import Counter
from contextlib import suppress
from datetime import timedelta
from typing import Any

from visual_memory.schemas.field_types import FieldType
from visual_memory.schemas.filter import Clause
from visual_memory.schemas.image import point_id
from visual_memory.schemas.labels import label_paths
from visual_memory.schemas.moments import now
from visual_memory.schemas.text_rules import respelled, respelled_label
from visual_memory.services.infrastructure.records import database_flags
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.resource_leases import Lease, Leases, Superseded
from visual_memory.services.vector_engines.engine_contract import EVERY_POINT, Engine, Payload, PointFilter, SetPayload

FLAG = "respelled_points"
LEASE = timedelta(seconds=30)
POLL = 0.2
PAGE = 1000

log = logging.getLogger(__name__)


def normalise_points(engine: Engine, database: Database, lease: timedelta = LEASE) -> Counter[str]:
    """Normalise the text of every point; wait while another process does it, resume if one was killed.

    Returns:
        the number of points read, as ``points``, and for each field the number of points in which it changed.

    Raises:
        Unavailable: the engine or the database does not answer; the next start resumes.
    """
    leases = Leases(database)
    while not (value := _read(database)).get("done"):
        with leases.held(FLAG, lease) as own_lease, suppress(Superseded):
            if own_lease is not None:
                return _normalise_pages(engine, database, leases, own_lease)
        time.sleep(POLL)
    return Counter(value["changed"])


def points_are_normalised(database: Database) -> bool:
    """Whether `normalise_points` has finished."""
    return bool(_read(database).get("done"))


def normalised_fields(payload: Payload) -> Payload:
    """The fields of a point whose text changes, with their new values; empty if none does."""
    wanted: Payload = {
        name: respelled(payload[name]) for name in ("source", "subject", "file_name") if payload.get(name) is not None
    }
    wanted["labels"] = _labels(payload["labels"])
    if payload.get("metadata"):
        wanted["metadata"] = {name: _text(value) for name, value in payload["metadata"].items()}
    if payload.get("history"):
        wanted["history"] = [{**each, "labels": _labels(each["labels"])} for each in payload["history"]]
    changed = {name: value for name, value in wanted.items() if value != payload[name]}
    if "labels" in changed:
        changed["label_paths"] = label_paths(changed["labels"])
    return changed


def _normalise_pages(engine: Engine, database: Database, leases: Leases, lease: Lease) -> Counter[str]:
    value = _read(database)
    counts, cursor = Counter[str](value.get("changed", {})), value.get("cursor")
    while engine.inspect():
        page, cursor = engine.scroll(EVERY_POINT, PAGE, cursor)
        writes = []
        for payload in page:
            if fields := normalised_fields(payload):
                counts.update(fields.keys() - {"label_paths"})
                writes.append(_write(payload, fields))
        counts["points"] += len(page)
        if writes:
            engine.write(writes)
        if cursor is None:
            break
        _save(database, leases, lease, {"cursor": cursor, "changed": counts})
    _save(database, leases, lease, {"done": True, "changed": counts})
    if len(counts) > 1:
        log.warning("text of stored images was normalised to Unicode NFC: %s", dict(counts))
    return counts


def _write(payload: Payload, fields: Payload) -> SetPayload:
    """Write the fields if the image is unchanged; new labels set ``changed_at``, so that it is judged again."""
    same = Clause("picture", FieldType.KEYWORD, (payload["picture"],))
    where = PointFilter(payload["tenant"], (same,), ids=(point_id(payload["tenant"], payload["image_id"]),))
    return SetPayload(fields | ({"changed_at": now().isoformat()} if "labels" in fields else {}), where)


def _read(database: Database) -> dict[str, Any]:
    return database_flags.read_flag(database, FLAG) or {}


def _save(database: Database, leases: Leases, lease: Lease, value: dict[str, Any]) -> None:
    with database.write(urgent=True) as connection:
        leases.check(connection, lease)
        database_flags.set_flag(database, connection, FLAG, value)


def _labels(labels: list[str]) -> list[str]:
    return list(dict.fromkeys(map(respelled_label, labels)))


def _text(value: object) -> object:
    return respelled(value) if isinstance(value, str) else value
