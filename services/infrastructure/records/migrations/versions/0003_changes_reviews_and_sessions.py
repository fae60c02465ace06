"""Add changes that can be undone, reviews, sessions, usage, backups, cancelled jobs, progress of removals."""

from alembic import op
from sqlalchemy import BigInteger, Boolean, Column, ForeignKeyConstraint, PrimaryKeyConstraint, String, text

from visual_memory.services.infrastructure.records.column_types import BigId, Json, Moment

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add them; programs of the version before do not use them."""
    op.create_table(
        "changes",
        Column("id", String(), nullable=False),
        Column("tenant", String(), nullable=False),
        Column("action", String(), nullable=False),
        Column("state", String(), nullable=False),
        Column("requested_by", String(), nullable=False),
        Column("made_at", Moment(), nullable=False),
        Column("images", BigInteger(), nullable=False),
        Column("skipped", BigInteger(), nullable=False),
        Column("undoes", String(), nullable=True),
        Column("undone_at", Moment(), nullable=True),
        Column("undone_by", String(), nullable=True),
        PrimaryKeyConstraint("id", name="pk_changes"),
    )
    op.create_index("ix_changes_made_at", "changes", ["made_at"], unique=False)
    op.create_index(
        "ix_changes_running",
        "changes",
        ["tenant"],
        unique=False,
        sqlite_where=text("state = 'running'"),
        postgresql_where=text("state = 'running'"),
    )
    op.create_index("ix_changes_tenant_id", "changes", ["tenant", "id"], unique=False)
    op.create_table(
        "review_claims",
        Column("tenant", String(), nullable=False),
        Column("kind", String(), nullable=False),
        Column("record", String(), nullable=False),
        Column("decision", BigId, nullable=True),
        Column("key", String(), nullable=False),
        Column("by", String(), nullable=False),
        Column("until", Moment(), nullable=False),
        ForeignKeyConstraint(["decision"], ["decisions.number"], name="fk_review_claims_decision", ondelete="CASCADE"),
        PrimaryKeyConstraint("tenant", "kind", "record", name="pk_review_claims"),
    )
    op.create_index("ix_review_claims_decision", "review_claims", ["decision"], unique=False)
    op.create_index("ix_review_claims_tenant_key", "review_claims", ["tenant", "key"], unique=False)
    op.create_table(
        "review_marks",
        Column("tenant", String(), nullable=False),
        Column("kind", String(), nullable=False),
        Column("record", String(), nullable=False),
        Column("decision", BigId, nullable=True),
        Column("seen", String(), nullable=False),
        Column("by", String(), nullable=False),
        Column("at", Moment(), nullable=False),
        ForeignKeyConstraint(["decision"], ["decisions.number"], name="fk_review_marks_decision", ondelete="CASCADE"),
        PrimaryKeyConstraint("tenant", "kind", "record", name="pk_review_marks"),
    )
    op.create_index("ix_review_marks_decision", "review_marks", ["decision"], unique=False)
    for name, columns, condition in (
        ("ix_decisions_unknown", ["tenant", "id"], text("label IS NULL")),
        ("ix_decisions_close", ["tenant", "margin", "id"], text("label IS NOT NULL")),
    ):
        op.create_index(name, "decisions", columns, sqlite_where=condition, postgresql_where=condition)
    op.create_table(
        "usage",
        Column("tenant", String(), nullable=False),
        Column("day", String(), nullable=False),
        Column("measure", String(), nullable=False),
        Column("amount", BigInteger(), nullable=False),
        PrimaryKeyConstraint("tenant", "day", "measure", name="pk_usage"),
    )
    op.create_table(
        "changed_images",
        Column("change", String(), nullable=False),
        Column("image_id", String(), nullable=False),
        Column("tenant", String(), nullable=False),
        Column("picture", String(), nullable=False),
        Column("before", Json, nullable=False),
        Column("state", String(), nullable=True),
        Column("revision", BigInteger(), nullable=False),
        Column("applied", Boolean(), nullable=False),
        ForeignKeyConstraint(["change"], ["changes.id"], name="fk_changed_images_change", ondelete="CASCADE"),
        PrimaryKeyConstraint("change", "image_id", name="pk_changed_images"),
    )
    op.create_index("ix_changed_images_tenant_image_id", "changed_images", ["tenant", "image_id"], unique=False)
    op.create_table(
        "change_mentions",
        Column("mention", BigInteger(), nullable=False),
        Column("change", String(), nullable=False),
        Column("image_id", String(), nullable=False),
        ForeignKeyConstraint(
            ["change", "image_id"],
            ["changed_images.change", "changed_images.image_id"],
            name="fk_change_mentions_changed_images",
            ondelete="CASCADE",
        ),
        PrimaryKeyConstraint("mention", "change", "image_id", name="pk_change_mentions"),
    )
    op.create_index("ix_change_mentions_change_image_id", "change_mentions", ["change", "image_id"], unique=False)
    op.create_table(
        "login_links",
        Column("digest", String(), nullable=False),
        Column("key", String(), nullable=False),
        Column("expires_at", Moment(), nullable=False),
        ForeignKeyConstraint(["key"], ["keys.id"], name="fk_login_links_key", ondelete="CASCADE"),
        PrimaryKeyConstraint("digest", name="pk_login_links"),
    )
    op.create_index("ix_login_links_expires_at", "login_links", ["expires_at"], unique=False)
    op.create_index("ix_login_links_key", "login_links", ["key"], unique=False)
    op.create_table(
        "sessions",
        Column("digest", String(), nullable=False),
        Column("key", String(), nullable=False),
        Column("expires_at", Moment(), nullable=False),
        ForeignKeyConstraint(["key"], ["keys.id"], name="fk_sessions_key", ondelete="CASCADE"),
        PrimaryKeyConstraint("digest", name="pk_sessions"),
    )
    op.create_index("ix_sessions_expires_at", "sessions", ["expires_at"], unique=False)
    op.create_index("ix_sessions_key", "sessions", ["key"], unique=False)
    op.add_column("jobs", Column("cancelled_by", String(), nullable=True))
    _replace_index("removals", ["tenant", "requested_at"], ["tenant", "requested_at", "id"])
    _replace_index("jobs", ["tenant", "kind", "requested_at"], ["tenant", "requested_at", "id"])
    _replace_index("audit_subjects", ["digest"], ["digest", "number"])
    op.create_table(
        "backups",
        Column("id", String(), nullable=False),
        Column("begun_at", Moment(), nullable=False),
        Column("ended_at", Moment(), nullable=False),
        PrimaryKeyConstraint("id", name="pk_backups"),
    )
    op.create_index("ix_backups_ended_at", "backups", ["ended_at"], unique=False)
    for name in ("done", "total"):
        op.add_column("removals", Column(name, BigInteger(), server_default=text("0"), nullable=False))


def _replace_index(table: str, before: list[str], after: list[str]) -> None:
    """Replace an index by one of the columns by which a list is paged."""
    op.drop_index("_".join(["ix", table, *before]), table)
    op.create_index("_".join(["ix", table, *after]), table, after, unique=False)
