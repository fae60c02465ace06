"""Convert the JSON records of earlier versions to rows of the tables.

Each function takes the key and the JSON of one record and yields rows. It reads plain JSON rather than today's classes,
because these change.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any, Protocol

from sqlalchemy import Table

from visual_memory.schemas.background_job import JobKind, JobState
from visual_memory.schemas.text_rules import respelled, respelled_label
from visual_memory.services.infrastructure.records import database_flags, tables

Row = tuple[Table, dict[str, Any]]


class Others(Protocol):
    """Access to the other records, for those that refer to them."""

    def read(self, key: str) -> Any:
        """The JSON of another record; None if there is none."""

    def encoder(self, digest: str) -> str | None:
        """The known encoder by the beginning of the digest of its name; the active one if that is empty."""

    def evaluation_files(self, tenant: str, evaluation_id: str) -> list[str]:
        """The names of the files of an evaluation."""

    def evaluation_file(self, tenant: str, evaluation_id: str, name: str) -> str:
        """The content of a file of an evaluation."""

    def read_decision(self, record: Any) -> Any:
        """A decision in the form of its store.

        Raises:
            ValueError: the record is no decision.
        """


ToRows = Callable[[str, Any, Others], Iterator[Row]]

FOUND = ".found"
_REQUESTED_BY = re.compile(r"(.+) \(key ([0-9a-f]{12})\)", re.DOTALL)


def key(_key: str, record: Any, _others: Others) -> Iterator[Row]:
    """``keys/ID``: a key with ``classify`` could read everything before the scope ``read`` existed, and still may."""
    fields = ("id", "name", "tenant", "scopes", "requests_per_minute", "bytes_per_minute", "digest")
    moments = {name: _moment(record[name]) for name in ("created_at", "revoked_at")}
    scopes = sorted({*record["scopes"], "read"}) if "classify" in record["scopes"] else record["scopes"]
    yield tables.keys, {name: record[name] for name in fields} | moments | {"scopes": scopes}


def removal(_key: str, record: Any, _others: Others) -> Iterator[Row]:
    """``removals/TENANT/ID``: a removal with its next step; an unfinished one starts again with its mark.

    Its receipt stays as it was issued, byte for byte.
    """
    old, tenant = record["removal"], record["tenant"]
    is_done = old["status"] == "done" and old.get("seal") is not None
    named = _REQUESTED_BY.fullmatch(old["requested_by"])
    erasure = old.get("erasure") or {}
    counts = {"images": old["images"], "by_state": old["by_state"], "pictures": old["pictures"]}
    yield (
        tables.removals,
        {
            "id": old["id"],
            "tenant": tenant,
            "step": "done" if is_done else "mark",
            "round": 0,
            "filter": None if is_done else _respelled_filter(old["filter"]),
            "everything": old["everything"],
            "block": old["block"],
            "reason": old["reason"],
            "requested_by": named[1] if named else old["requested_by"],
            "requested_key": named[2] if named else None,
            "requested_at": _moment(old["requested_at"]),
            **(counts if is_done else {"images": 0, "by_state": {}, "pictures": 0}),
            "verified_at": _moment(old["verified_at"]) if is_done else None,
            "receipt": issued_text(old) if is_done else None,
            "erased_at": _moment(erasure.get("at")),
            "erased": erasure.get("erased"),
            "erasure_note": erasure.get("note"),
            "erasure_receipt": issued_text(old) if is_done and erasure else None,
        },
    )


def note(key: str, record: Any, _others: Others) -> Iterator[Row]:
    """``notes/TENANT/ID.TURN.PAGE``: images of an unfinished removal; their points may be deleted already."""
    tenant, removal_id = _of_page(key)
    for each in record:
        fields = {name: each[name] for name in ("image_id", "picture", "state", "content_hash")}
        yield (
            tables.covered_images,
            fields | {"tenant": tenant, "removal": removal_id, "marked_by": removal_id, "fields": {}},
        )


def tombstone(key: str, record: Any, _others: Others) -> Iterator[Row]:
    """``buried/TENANT/ID.TURN.PAGE``: digests of the picture keys that a removal covered."""
    tenant, removal_id = _of_page(key)
    for digest in record:
        yield tables.tombstones, {"tenant": tenant, "digest": digest, "removal": removal_id}


def block(key: str, record: Any, _others: Others) -> Iterator[Row]:
    """``blocks/TENANT/KIND/DIGEST``: the digest of a text as it was sent."""
    _, tenant, kind, digest = key.split("/")
    yield tables.blocks, {"tenant": tenant, "kind": kind, "digest": digest, "removal": record["removal"]}


def log_entry(key: str, record: Any, _others: Others) -> Iterator[Row]:
    """``log/TENANT/NUMBER``: a log entry, in the form that its digest was computed of."""
    _, tenant, number = key.split("/")
    text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    fields = {name: record[name] for name in ("event", "removal")}
    yield (
        tables.receipt_log,
        {
            **fields,
            "tenant": tenant,
            "number": int(number),
            "at": _moment(record["at"]),
            "entry": text,
            "digest": sha256(text.encode()).hexdigest(),
            "version": 1,
        },
    )


def job(key: str, record: Any, _others: Others) -> Iterator[Row]:
    """``jobs/TENANT/ID``, of a kind that still exists."""
    fields = {name: record[name] for name in ("id", "kind", "state", "requested_by")}
    if fields["kind"] not in {*JobKind} or fields["state"] not in {*JobState}:
        return
    progress = {"stage": "", "done": 0, "total": 0, "attempts": 0, "error": None}  # the first versions lack some
    progress |= {name: record[name] for name in progress.keys() & record.keys()}
    moments = {name: _moment(record.get(name)) for name in ("requested_at", "touched_at")}
    yield tables.jobs, {**fields, **progress, **moments, "tenant": key.split("/")[1]}


def question(key: str, record: Any, others: Others) -> Iterator[Row]:
    """``questions/TENANT/JOB``, with its answer in ``.found``."""
    if not key.endswith(FOUND):
        _, tenant, job_id = key.split("/")
        result = others.read(key + FOUND)
        query = {name: record.get(name) for name in ("decision", "last")}
        yield (
            tables.questions,
            {"job": job_id, "tenant": tenant, **query, "result": None if result is None else _json(result)},
        )


def evaluation(key: str, record: Any, others: Others) -> Iterator[Row]:
    """``evaluations/TENANT/JOB``; its report and pictures stay files."""
    _, tenant, job_id = key.split("/")
    files = others.evaluation_files(tenant, job_id)
    is_done = {"report.zip", "summary.json"} <= {*files}
    yield (
        tables.evaluations,
        {
            "job": job_id,
            "tenant": tenant,
            "encoder": record["encoder"],
            "request": _json(respelled_text(record["request"])),
            "summary": others.evaluation_file(tenant, job_id, "summary.json") if is_done else None,
            "report": "report.zip" if is_done else None,
        },
    )
    for name in files:
        folder, _, file = name.partition("/")
        if folder == "queries":
            yield tables.evaluation_pictures, {"job": job_id, "file": file, "pictures": int(file.rpartition(".")[2])}


def decision(key: str, record: Any, others: Others) -> Iterator[Row]:
    """``decisions/TENANT/ID``, with normalised text; its store makes the rows."""
    yield tables.decisions, {"tenant": key.split("/")[1], "stored": others.read_decision(_respelled_decision(record))}


def judgement(key: str, record: Any, others: Others) -> Iterator[Row]:
    """``judgements/TENANT/ID``: a registration, with its result in ``.found``, which is valid only with it.

    A result whose labels change by normalisation is left out: the memory is judged again.
    """
    if key.endswith(FOUND) or record is not True:
        return
    _, tenant, judgement_id = key.split("/")
    body = others.read(key + FOUND)
    if body is not None and respelled_text(body) == body:
        row = {"id": judgement_id, "tenant": tenant, "encoder": body["encoder"], "body": _json(body)}
        yield tables.judgements, row


def judgement_use(key: str, record: Any, others: Others) -> Iterator[Row]:
    """``judgement_uses/TENANT=DIGEST``."""
    tenant, _, digest = key.partition("/")[2].partition("=")
    encoder = others.encoder(digest)
    if encoder is not None:
        yield tables.judgement_uses, {"tenant": tenant, "encoder": encoder, "at": _moment(record)}


def encoder(key: str, record: Any, others: Others) -> Iterator[Row]:
    """``encoders/known/DIGEST``, with its fill settings and whether it is being dropped; ``encoders/active``."""
    if key == "encoders/active":
        active = {"name": record["name"], "before": record.get("before"), "since": _moment(record["since"])}
        yield tables.active_encoder, {"only": 1, **active}
    elif key.startswith("encoders/known/"):
        digest = key.rpartition("/")[2]
        fill, dropping = (others.read(f"encoders/{kind}/{digest}") for kind in ("fill", "dropping"))
        yield tables.encoders, {"name": record["name"], "spec": record, "fill": fill, "dropping": dropping is not None}


def periodic_run(key: str, record: Any, _others: Others) -> Iterator[Row]:
    """``schedule/DUTY``."""
    moments = {name: _moment(record.get(name)) for name in ("begun", "finished")}
    yield tables.schedule, moments | {"duty": key.partition("/")[2]}


def unfinished_restore(_key: str, record: Any, _others: Others) -> Iterator[Row]:
    """``restore/unfinished``: the service must not start before the restore is finished."""
    yield tables.facts, {"name": database_flags.RESTORE, "value": record}


def audit_line(line: Mapping[str, Any]) -> dict[str, Any]:
    """A line of ``audit.jsonl`` as a row of its table."""
    columns = ("tenant", "by", "key", "request", "action", "outcome")
    details = {name: value for name, value in line.items() if name not in (*columns, "at")}
    row = {name: line.get(name) for name in columns} | {"outcome": line.get("outcome", "done")}
    return row | {"at": _moment(line["at"]), "details": details}


def issued_text(receipt: Any) -> str:
    """The text of a receipt of version 1, as it was issued."""
    return _json(receipt)


def respelled_text(value: Any) -> Any:
    """Normalise every text in JSON, including the keys of objects."""
    return _each_text(value, respelled)


def _each_text(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_each_text(each, change) for each in value]
    if isinstance(value, dict):
        return {change(name): _each_text(each, change) for name, each in value.items()}
    return value


def _respelled_filter(value: Any) -> Any:
    """Normalise the texts of a filter."""
    return {name: _each_text(each, respelled_label if name == "labels" else respelled) for name, each in value.items()}


def _respelled_decision(record: Any) -> Any:
    """Normalise a decision; unchanged if two labels would become one, because votes were counted for two."""
    body = respelled_text(record)
    labels = [share["label"] for share in body["decision"]["shares"]]
    return body if len(labels) == len({*labels}) else record


def _of_page(key: str) -> tuple[str, str]:
    """The tenant and removal of a page of notes or digests."""
    _, tenant, page = key.split("/")
    return tenant, page.split(".")[0]


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
