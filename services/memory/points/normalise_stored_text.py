"""The text of points that earlier versions wrote comes into today's one spelling: once, before anything is served.

A filter asks in that spelling, so what a point has in another would be met by none, and a removal would miss it.
"""

import logging
import time
from collections import Counter
from contextlib import suppress
from datetime import timedelta
from typing import Any

from visual_memory.schemas.field_types import FieldType
from visual_memory.schemas.filter import Clause
from visual_memory.schemas.image import now, point_id
from visual_memory.schemas.labels import label_paths
from visual_memory.schemas.text_rules import respelled, respelled_label
from visual_memory.services.infrastructure.records import database_flags
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.resource_leases import Lease, Leases, Superseded
from visual_memory.services.vector_engines.engine_contract import EVERY_POINT, Engine, Payload, PointFilter, SetPayload

FACT = "respelled_points"
LEASE = timedelta(seconds=30)
POLL = 0.2
PAGE = 1000

log = logging.getLogger(__name__)


def respell_points(engine: Engine, database: Database, lease: timedelta = LEASE) -> Counter[str]:
    """Respell the text of every point; waits while another process does it, and goes on where one was killed.

    Returns:
        how many points were looked at, as ``points``, and in how many of them each field became another.

    Raises:
        Unavailable: the engine or the database does not answer; the next start goes on.
    """
    leases = Leases(database)
    while not (value := _value(database)).get("done"):
        with leases.held(FACT, lease) as held, suppress(Superseded):
            if held is not None:
                return _respell(engine, database, leases, held)
        time.sleep(POLL)
    return Counter(value["changed"])


def are_respelled(database: Database) -> bool:
    """Whether that was done."""
    return bool(_value(database).get("done"))


def respelled_fields(payload: Payload) -> Payload:
    """The fields of a point whose text becomes another, as they are from now on; empty where none does."""
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


def _respell(engine: Engine, database: Database, leases: Leases, lease: Lease) -> Counter[str]:
    value = _value(database)
    counts, cursor = Counter[str](value.get("changed", {})), value.get("cursor")
    while engine.inspect():
        page, cursor = engine.scroll(EVERY_POINT, PAGE, cursor)
        writes = []
        for payload in page:
            if fields := respelled_fields(payload):
                counts.update(fields.keys() - {"label_paths"})
                writes.append(_write(payload, fields))
        counts["points"] += len(page)
        if writes:
            engine.write(writes)
        if cursor is None:
            break
        _say(database, leases, lease, {"cursor": cursor, "changed": counts})
    _say(database, leases, lease, {"done": True, "changed": counts})
    if len(counts) > 1:
        log.warning("text of images came into one spelling (Unicode's NFC): %s", dict(counts))
    return counts


def _write(payload: Payload, fields: Payload) -> SetPayload:
    """What to write, as long as it is the very same image; judged again where its labels are others."""
    same = Clause("picture", FieldType.KEYWORD, (payload["picture"],))
    where = PointFilter(payload["tenant"], (same,), ids=(point_id(payload["tenant"], payload["image_id"]),))
    return SetPayload(fields | ({"changed_at": now().isoformat()} if "labels" in fields else {}), where)


def _value(database: Database) -> dict[str, Any]:
    return database_flags.read_flag(database, FACT) or {}


def _say(database: Database, leases: Leases, lease: Lease, value: dict[str, Any]) -> None:
    with database.write(urgent=True) as connection:
        leases.check(connection, lease)
        database_flags.set_flag(database, connection, FACT, value)


def _labels(labels: list[str]) -> list[str]:
    return list(dict.fromkeys(map(respelled_label, labels)))


def _text(value: object) -> object:
    return respelled(value) if isinstance(value, str) else value
