"""Pages of rows: each row once, whatever comes or goes; and any page is as fast as the first, for it reads an index."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Select, delete, insert, select, text
from sqlalchemy.engine import Connection

from visual_memory.schemas.page import Page, PageRequest
from visual_memory.services.access.audit_log import ENTRIES, ENTRIES_OF_SUBJECT
from visual_memory.services.decisions import stored_decisions
from visual_memory.services.evaluation import evaluation_records
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.keyset_pages import LatestFirst
from visual_memory.services.infrastructure.records.tables import audit, audit_subjects, decisions, jobs, removals
from visual_memory.services.removal import removal_records

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
JOBS = evaluation_records.LIST
OURS = select(jobs).where(jobs.c.tenant == "north")
LISTS: dict[str, tuple[LatestFirst[Any], Select[Any], tuple[object, ...], str]] = {
    "removals": (
        removal_records.LIST,
        select(removals).where(removals.c.tenant == "north"),
        (BEGIN, "a"),
        "ix_removals_tenant_requested_at_id",
    ),
    "jobs": (JOBS, OURS, (BEGIN, "a"), "ix_jobs_tenant_requested_at_id"),
    "audit": (ENTRIES, select(audit).where(audit.c.tenant == "north"), (7,), "ix_audit_tenant_number"),
    "audit of a subject": (
        ENTRIES_OF_SUBJECT,
        select(audit_subjects.c.number).where(audit_subjects.c.digest == "d"),
        (7,),
        "ix_audit_subjects_digest_number",
    ),
    "decisions": (
        stored_decisions.LIST,
        select(decisions.c.id).where(decisions.c.tenant == "north"),
        ("20260101T000000000000-a",),
        "_decisions_",  # of its unique constraint, which each database names in its way
    ),
    "decisions of a label": (
        stored_decisions.LIST,
        select(decisions.c.id).where(decisions.c.tenant == "north", decisions.c.label == "cat"),
        ("20260101T000000000000-a",),
        "ix_decisions_tenant_label_id",
    ),
}


def job(number: int, tenant: str = "north") -> dict[str, object]:
    """The row of a job; three have the same moment."""
    at = BEGIN + timedelta(seconds=number // 3)
    row = {"id": f"{number:04}", "tenant": tenant, "kind": "evaluation", "state": "done"}
    return {**row, "requested_by": "a test", "requested_at": at}


def pages(database: Database, limit: int) -> Iterator[Page[str]]:
    cursor: str | None = None
    while True:
        with database.read() as connection:
            page = JOBS.page(connection, OURS, PageRequest(limit, cursor, total=True), lambda row: str(row.id))
        yield page
        cursor = page.next_cursor
        if cursor is None:
            return


def test_each_row_comes_once_the_latest_first(database: Database) -> None:
    with database.write() as connection:
        connection.execute(insert(jobs), [job(number) for number in range(50)])
        connection.execute(insert(jobs).values(job(99, "south")))
    walked = pages(database, 7)
    first = next(walked)
    assert (len(first.data), first.has_more, first.total, first.total_is_estimate) == (7, True, 50, False)
    with database.write() as connection:  # what comes is later than the page; what goes is not waited for
        connection.execute(insert(jobs).values(job(60)))
        connection.execute(delete(jobs).where(jobs.c.id.in_([first.data[-1], "0010"])))
    rest = [each for page in walked for each in page.data]
    expected = sorted((job(number) for number in range(50)), key=lambda row: (row["requested_at"], row["id"]))
    assert [*first.data, *rest] == [each["id"] for each in reversed(expected) if each["id"] != "0010"]


@pytest.mark.parametrize("name", LISTS)
def test_a_page_reads_no_more_than_its_rows_from_an_index(database: Database, name: str) -> None:
    listed, query, position, index = LISTS[name]
    for cursor in (None, listed.cursors.encode(position)):
        with database.read() as connection:
            plan = _plan(connection, listed.query(query, PageRequest(cursor=cursor)))
        assert index in plan, plan
        assert "SORT" not in plan.upper(), plan
        assert "TEMP B-TREE" not in plan, plan
        assert plan.count("ROW(") + plan.count("(requested_at,id)<") >= (cursor is not None) * (len(position) - 1), plan


def _plan(connection: Connection, query: Select[Any]) -> str:
    literal = query.compile(connection, compile_kwargs={"literal_binds": True})
    if connection.dialect.name == "sqlite":
        return "\n".join(row[3] for row in connection.execute(text(f"EXPLAIN QUERY PLAN {literal}")))
    for setting in ("enable_seqscan", "enable_bitmapscan", "enable_sort"):  # the tables are empty
        connection.execute(text(f"SET LOCAL {setting} = off"))
    return "\n".join(row[0] for row in connection.execute(text(f"EXPLAIN {literal}")))
