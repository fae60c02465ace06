"""What Alembic runs: migrations on a connection that is given, inside of its transaction."""

from alembic import context

from visual_memory.services.infrastructure.records.tables import metadata

context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, transaction_per_migration=False
)
context.run_migrations()
