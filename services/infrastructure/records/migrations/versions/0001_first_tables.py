"""Create the first tables."""

from alembic import op
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKeyConstraint,
    Integer,
    PrimaryKeyConstraint,
    String,
    UniqueConstraint,
    false,
    text,
)

from visual_memory.services.infrastructure.records.column_types import BigId, Json, Moment

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "active_encoder",
        Column("only", Integer(), nullable=False),
        Column("name", String(), nullable=False),
        Column("before", String(), nullable=True),
        Column("since", Moment(), nullable=False),
        PrimaryKeyConstraint("only", name="pk_active_encoder"),
    )
    op.create_table(
        "audit",
        Column("number", BigId, autoincrement=True, nullable=False),
        Column("at", Moment(), nullable=False),
        Column("tenant", String(), nullable=False),
        Column("by", String(), nullable=False),
        Column("key", String(), nullable=True),
        Column("request", String(), nullable=True),
        Column("action", String(), nullable=False),
        Column("outcome", String(), nullable=False),
        Column("details", Json, nullable=False),
        PrimaryKeyConstraint("number", name="pk_audit"),
    )
    op.create_index("ix_audit_tenant_number", "audit", ["tenant", "number"], unique=False)
    op.create_table(
        "blocks",
        Column("tenant", String(), nullable=False),
        Column("kind", String(), nullable=False),
        Column("digest", String(), nullable=False),
        Column("removal", String(), nullable=False),
        PrimaryKeyConstraint("tenant", "kind", "digest", "removal", name="pk_blocks"),
    )
    op.create_index("ix_blocks_removal", "blocks", ["removal"], unique=False)
    op.create_table(
        "decisions",
        Column("number", BigId, autoincrement=True, nullable=False),
        Column("tenant", String(), nullable=False),
        Column("id", String(), nullable=False),
        Column("version", Integer(), nullable=False),
        Column("size", Integer(), nullable=False),
        Column("asked_at", Moment(), nullable=False),
        Column("asked_by", String(), nullable=False),
        Column("label", String(), nullable=True),
        Column("margin", Float(), nullable=False),
        Column("voters", Integer(), nullable=False),
        Column("scrubbed", Integer(), nullable=False),
        Column("body", String(), nullable=False),
        PrimaryKeyConstraint("number", name="pk_decisions"),
        UniqueConstraint("tenant", "id", name="uq_decisions_tenant_id"),
    )
    op.create_index("ix_decisions_tenant_label_id", "decisions", ["tenant", "label", "id"], unique=False)
    op.create_table(
        "encoders",
        Column("name", String(), nullable=False),
        Column("spec", Json, nullable=False),
        Column("fill", Json, nullable=True),
        Column("dropping", Boolean(), server_default=false(), nullable=False),
        PrimaryKeyConstraint("name", name="pk_encoders"),
    )
    op.create_table(
        "facts",
        Column("name", String(), nullable=False),
        Column("value", Json, nullable=False),
        PrimaryKeyConstraint("name", name="pk_facts"),
    )
    op.create_table(
        "idempotency",
        Column("tenant", String(), nullable=False),
        Column("key", String(), nullable=False),
        Column("idempotency_key", String(), nullable=False),
        Column("request", String(), nullable=False),
        Column("resource", String(), nullable=True),
        Column("at", Moment(), nullable=False),
        PrimaryKeyConstraint("tenant", "key", "idempotency_key", name="pk_idempotency"),
    )
    op.create_index("ix_idempotency_at", "idempotency", ["at"], unique=False)
    op.create_table(
        "jobs",
        Column("id", String(), nullable=False),
        Column("tenant", String(), nullable=False),
        Column("kind", String(), nullable=False),
        Column("state", String(), nullable=False),
        Column("token", String(), nullable=True),
        Column("requested_by", String(), nullable=False),
        Column("requested_at", Moment(), nullable=False),
        Column("touched_at", Moment(), nullable=True),
        Column("stage", String(), nullable=False),
        Column("done", BigInteger(), nullable=False),
        Column("total", BigInteger(), nullable=False),
        Column("attempts", Integer(), nullable=False),
        Column("error", String(), nullable=True),
        PrimaryKeyConstraint("id", name="pk_jobs"),
    )
    op.create_index("ix_jobs_state", "jobs", ["state"], unique=False)
    op.create_index("ix_jobs_tenant_kind_requested_at", "jobs", ["tenant", "kind", "requested_at"], unique=False)
    op.create_table(
        "judgement_uses",
        Column("tenant", String(), nullable=False),
        Column("encoder", String(), nullable=False),
        Column("at", Moment(), nullable=False),
        PrimaryKeyConstraint("tenant", "encoder", name="pk_judgement_uses"),
    )
    op.create_table(
        "judgements",
        Column("tenant", String(), nullable=False),
        Column("id", String(), nullable=False),
        Column("encoder", String(), nullable=False),
        Column("body", String(), nullable=True),
        PrimaryKeyConstraint("tenant", "id", name="pk_judgements"),
    )
    op.create_table(
        "keys",
        Column("id", String(), nullable=False),
        Column("name", String(), nullable=False),
        Column("tenant", String(), nullable=False),
        Column("scopes", Json, nullable=False),
        Column("requests_per_minute", Integer(), nullable=True),
        Column("bytes_per_minute", BigInteger(), nullable=True),
        Column("digest", String(), nullable=False),
        Column("created_at", Moment(), nullable=False),
        Column("revoked_at", Moment(), nullable=True),
        PrimaryKeyConstraint("id", name="pk_keys"),
    )
    op.create_table(
        "leases",
        Column("resource", String(), nullable=False),
        Column("token", String(), nullable=False),
        Column("until", Moment(), nullable=False),
        PrimaryKeyConstraint("resource", name="pk_leases"),
    )
    op.create_table(
        "receipt_log",
        Column("tenant", String(), nullable=False),
        Column("number", BigInteger(), nullable=False),
        Column("event", String(), nullable=False),
        Column("removal", String(), nullable=False),
        Column("at", Moment(), nullable=False),
        Column("entry", String(), nullable=False),
        Column("digest", String(), nullable=False),
        Column("version", Integer(), nullable=False),
        PrimaryKeyConstraint("tenant", "number", name="pk_receipt_log"),
    )
    op.create_index("ix_receipt_log_tenant_removal", "receipt_log", ["tenant", "removal"], unique=False)
    op.create_index(
        "uq_receipt_log_event",
        "receipt_log",
        ["tenant", "removal", "event"],
        unique=True,
        sqlite_where=text("version > 1"),
        postgresql_where=text("version > 1"),
    )
    op.create_table(
        "receipt_log_ends",
        Column("tenant", String(), nullable=False),
        Column("number", BigInteger(), nullable=False),
        Column("digest", String(), nullable=False),
        Column("seal", String(), nullable=False),
        PrimaryKeyConstraint("tenant", name="pk_receipt_log_ends"),
    )
    op.create_table(
        "removals",
        Column("id", String(), nullable=False),
        Column("tenant", String(), nullable=False),
        Column("step", String(), nullable=False),
        Column("round", Integer(), nullable=False),
        Column("filter", Json, nullable=True),
        Column("everything", Boolean(), nullable=False),
        Column("block", Boolean(), nullable=False),
        Column("reason", String(), nullable=False),
        Column("requested_by", String(), nullable=False),
        Column("requested_key", String(), nullable=True),
        Column("requested_at", Moment(), nullable=False),
        Column("erase_now", Boolean(), server_default=false(), nullable=False),
        Column("images", BigInteger(), nullable=False),
        Column("by_state", Json, nullable=False),
        Column("pictures", BigInteger(), nullable=False),
        Column("verified_at", Moment(), nullable=True),
        Column("waits_for", String(), nullable=True),
        Column("receipt", String(), nullable=True),
        Column("erasing", String(), nullable=True),
        Column("erased_at", Moment(), nullable=True),
        Column("erased", Boolean(), nullable=True),
        Column("erasure_note", String(), nullable=True),
        Column("erasure_receipt", String(), nullable=True),
        PrimaryKeyConstraint("id", name="pk_removals"),
    )
    op.create_index("ix_removals_tenant_requested_at", "removals", ["tenant", "requested_at"], unique=False)
    op.create_index(
        "ix_removals_unerased",
        "removals",
        ["verified_at"],
        unique=False,
        sqlite_where=text("erasure_receipt IS NULL"),
        postgresql_where=text("erasure_receipt IS NULL"),
    )
    op.create_index(
        "ix_removals_unfinished",
        "removals",
        ["step", "tenant"],
        unique=False,
        sqlite_where=text("step <> 'done'"),
        postgresql_where=text("step <> 'done'"),
    )
    op.create_table(
        "schedule",
        Column("duty", String(), nullable=False),
        Column("begun", Moment(), nullable=True),
        Column("finished", Moment(), nullable=True),
        PrimaryKeyConstraint("duty", name="pk_schedule"),
    )
    op.create_table(
        "tombstones",
        Column("tenant", String(), nullable=False),
        Column("digest", String(), nullable=False),
        Column("removal", String(), nullable=False),
        PrimaryKeyConstraint("tenant", "digest", "removal", name="pk_tombstones"),
    )
    op.create_index("ix_tombstones_removal", "tombstones", ["removal"], unique=False)
    op.create_table(
        "audit_subjects",
        Column("number", BigId, nullable=False),
        Column("digest", String(), nullable=False),
        ForeignKeyConstraint(["number"], ["audit.number"], name="fk_audit_subjects_number", ondelete="CASCADE"),
        PrimaryKeyConstraint("number", "digest", name="pk_audit_subjects"),
    )
    op.create_index("ix_audit_subjects_digest", "audit_subjects", ["digest"], unique=False)
    op.create_table(
        "covered_images",
        Column("removal", String(), nullable=False),
        Column("image_id", String(), nullable=False),
        Column("picture", String(), nullable=False),
        Column("tenant", String(), nullable=False),
        Column("state", String(), nullable=False),
        Column("content_hash", String(), nullable=False),
        Column("marked_by", String(), nullable=False),
        Column("fields", Json, nullable=False),
        ForeignKeyConstraint(["removal"], ["removals.id"], name="fk_covered_images_removal", ondelete="CASCADE"),
        PrimaryKeyConstraint("removal", "image_id", "picture", name="pk_covered_images"),
    )
    op.create_index("ix_covered_images_tenant_marked_by", "covered_images", ["tenant", "marked_by"], unique=False)
    op.create_table(
        "covered_vectors",
        Column("removal", String(), nullable=False),
        Column("mention", BigInteger(), nullable=False),
        ForeignKeyConstraint(["removal"], ["removals.id"], name="fk_covered_vectors_removal", ondelete="CASCADE"),
        PrimaryKeyConstraint("removal", "mention", name="pk_covered_vectors"),
    )
    op.create_table(
        "decision_mentions",
        Column("mention", BigInteger(), nullable=False),
        Column("decision", BigId, nullable=False),
        ForeignKeyConstraint(
            ["decision"], ["decisions.number"], name="fk_decision_mentions_decision", ondelete="CASCADE"
        ),
        PrimaryKeyConstraint("mention", "decision", name="pk_decision_mentions"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_decision_mentions_decision", "decision_mentions", ["decision"], unique=False)
    op.create_table(
        "evaluations",
        Column("job", String(), nullable=False),
        Column("tenant", String(), nullable=False),
        Column("encoder", String(), nullable=False),
        Column("request", String(), nullable=False),
        Column("summary", String(), nullable=True),
        Column("report", String(), nullable=True),
        ForeignKeyConstraint(["job"], ["jobs.id"], name="fk_evaluations_job", ondelete="CASCADE"),
        PrimaryKeyConstraint("job", name="pk_evaluations"),
    )
    op.create_index("ix_evaluations_tenant", "evaluations", ["tenant"], unique=False)
    op.create_table(
        "questions",
        Column("job", String(), nullable=False),
        Column("tenant", String(), nullable=False),
        Column("decision", String(), nullable=True),
        Column("last", Integer(), nullable=True),
        Column("result", String(), nullable=True),
        ForeignKeyConstraint(["job"], ["jobs.id"], name="fk_questions_job", ondelete="CASCADE"),
        PrimaryKeyConstraint("job", name="pk_questions"),
    )
    op.create_index("ix_questions_tenant", "questions", ["tenant"], unique=False)
    op.create_table(
        "evaluation_pictures",
        Column("job", String(), nullable=False),
        Column("file", String(), nullable=False),
        Column("pictures", Integer(), nullable=False),
        ForeignKeyConstraint(["job"], ["evaluations.job"], name="fk_evaluation_pictures_job", ondelete="CASCADE"),
        PrimaryKeyConstraint("job", "file", name="pk_evaluation_pictures"),
    )
