"""Add the intake position of removals, and the table of entries that they refused."""

from alembic import op
from sqlalchemy import BigInteger, Boolean, Column, PrimaryKeyConstraint, String, false, text

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add them; programs of the version before do not use them."""
    op.add_column("removals", Column("intake_position", String(), nullable=True))
    op.add_column("removals", Column("drained", Boolean(), server_default=false(), nullable=False))
    op.add_column("removals", Column("queued", BigInteger(), server_default=text("0"), nullable=False))
    op.create_table(
        "refused_entries",
        Column("tenant", String(), nullable=False),
        Column("entry", String(), nullable=False),
        Column("removal", String(), nullable=False),
        Column("image_id", String(), nullable=True),
        PrimaryKeyConstraint("tenant", "entry", "removal", name="pk_refused_entries"),
    )
    op.create_index("ix_refused_entries_removal", "refused_entries", ["removal"], unique=False)
