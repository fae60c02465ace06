"""The migrations, one file each, in the order of their numbers: how the database comes from version to version.

Versions one apart run side by side, so a change that would stop the version before takes two migrations. The first adds
(expand): tables, indexes, columns that may be NULL or have a default in the database; both versions work with it, and
the new one reads what is there from either. The second, a version later, takes away what nobody uses any more
(contract), and raises `OLDEST` of `services.infrastructure.records.upgrade_schema` to the first. A column is renamed,
or made NOT NULL, in the same two steps. `tests/unit/infrastructure/records/test_versions_side_by_side.py` holds them to
that.
"""
