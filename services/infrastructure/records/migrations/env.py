"""The environment of Alembic: runs migrations on the caller's connection, within its transaction."""

from alembic import context

from visual_memory.services.infrastructure.records.tables import metadata

context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, transaction_per_migration=False
)
context.run_migrations()
