"""The migrations of the records' database, one file each, in the order of their numbers.

Consecutive versions can run concurrently, so a change that would break the version before takes two migrations. The
first adds (expand): tables, indexes, columns that may be NULL or have a default in the database; both versions work
with it, and the new one reads the rows of both. The second, a version later, drops what is unused (contract), and
raises `OLDEST` of `services.infrastructure.records.upgrade_schema` to the first. A column is renamed, or made NOT NULL,
in the same two steps. `tests/unit/infrastructure/records/test_versions_side_by_side.py` checks that.
"""
