"""Migrations of the schema, by Alembic; each is a file of `versions`, named by its number."""
