"""The kinds of records of earlier versions, in the order of their import."""

from dataclasses import dataclass

from sqlalchemy import Table

from visual_memory.services.infrastructure.records import tables
from visual_memory.services.infrastructure.records.json_import import json_record_rows as rows


@dataclass(frozen=True)
class Kind:
    """Records of one kind.

    Attributes:
        folder: the folder of their files.
        to_rows: converts a record to rows.
        parent: the parent table, and the field of a row that names its parent; a row without a parent is left out.
    """

    folder: str
    to_rows: rows.ToRows
    parent: tuple[Table, str] | None = None


KINDS = (
    Kind("keys", rows.key),
    Kind("encoders", rows.encoder),
    Kind("removals", rows.removal),
    Kind("notes", rows.note, (tables.removals, "removal")),
    Kind("buried", rows.tombstone),
    Kind("blocks", rows.block),
    Kind("log", rows.log_entry),
    Kind("jobs", rows.job),
    Kind("questions", rows.question, (tables.jobs, "job")),
    Kind("evaluations", rows.evaluation, (tables.jobs, "job")),
    Kind("decisions", rows.decision),
    Kind("judgements", rows.judgement),
    Kind("judgement_uses", rows.judgement_use),
    Kind("schedule", rows.periodic_run),
    Kind("restore", rows.unfinished_restore),
)
"""Each kind after those that it refers to."""
NO_ROWS = ("open", "unerased", "log-end", "decisions-gone")
"""Folders whose content follows from the rows of others."""
FOLDERS = frozenset({*NO_ROWS, *(kind.folder for kind in KINDS)})
