"""The schema of the records' database: all tables.

Moments are in UTC. Ids and what users wrote are text, or inside of JSON. The migrations are in
`services/infrastructure/records/migrations`.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    false,
    text,
)

from visual_memory.services.infrastructure.records.column_types import BigId, Json, Moment

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


# --- the records themselves -------------------------------------------------------------------------------------------

facts = Table(
    "facts",
    metadata,
    Column("name", String, primary_key=True),  # such as: which old records were imported
    Column("value", Json, nullable=False),
)

leases = Table(
    "leases",
    metadata,
    Column("resource", String, primary_key=True),
    Column("token", String, nullable=False),
    Column("until", Moment, nullable=False),
)

schedule = Table(
    "schedule",
    metadata,
    Column("duty", String, primary_key=True),
    Column("begun", Moment),
    Column("finished", Moment),
)


backups = Table(
    "backups",  # that were made, so that a preview of a removal can name those that hold its images
    metadata,
    Column("id", String, primary_key=True),
    Column("begun_at", Moment, nullable=False),
    Column("ended_at", Moment, nullable=False, index=True),  # it holds nothing that was accepted later
)


# --- access -----------------------------------------------------------------------------------------------------------

keys = Table(
    "keys",
    metadata,
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("tenant", String, nullable=False),
    Column("scopes", Json, nullable=False),
    Column("requests_per_minute", Integer),
    Column("bytes_per_minute", BigInteger),
    Column("digest", String, nullable=False),  # SHA-256 of its secret
    Column("created_at", Moment, nullable=False),
    Column("revoked_at", Moment),
)

audit = Table(
    "audit",
    metadata,
    Column("number", BigId, primary_key=True, autoincrement=True),
    Column("at", Moment, nullable=False),
    Column("tenant", String, nullable=False),
    Column("by", String, nullable=False),
    Column("key", String),
    Column("request", String),
    Column("action", String, nullable=False),
    Column("outcome", String, nullable=False),
    Column("details", Json, nullable=False),  # further fields of `schemas.audit_entry.AuditEntry`
    Index(None, "tenant", "number"),
)

audit_subjects = Table(
    "audit_subjects",
    metadata,
    Column("number", BigId, ForeignKey(audit.c.number, ondelete="CASCADE"), primary_key=True),
    Column("digest", String, primary_key=True),  # keyed, of a subject that was accessed
    Index(None, "digest", "number"),
)

sessions = Table(
    "sessions",  # of browsers, made from an API key
    metadata,
    Column("digest", String, primary_key=True),  # SHA-256 of the cookie
    Column("key", String, ForeignKey(keys.c.id, ondelete="CASCADE"), nullable=False, index=True),
    Column("expires_at", Moment, nullable=False, index=True),
)

login_links = Table(
    "login_links",  # each opens one session
    metadata,
    Column("digest", String, primary_key=True),  # SHA-256 of the link's token
    Column("key", String, ForeignKey(keys.c.id, ondelete="CASCADE"), nullable=False, index=True),
    Column("expires_at", Moment, nullable=False, index=True),
)

usage = Table(
    "usage",
    metadata,
    Column("tenant", String, primary_key=True),
    Column("day", String, primary_key=True),  # in UTC, YYYY-MM-DD
    Column("measure", String, primary_key=True),
    Column("amount", BigInteger, nullable=False),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("tenant", String, primary_key=True),
    Column("key", String, primary_key=True),  # the API key's id
    Column("idempotency_key", String, primary_key=True),
    Column("request", String, nullable=False),  # its keyed digest
    Column("resource", String),  # the id of what it made; NULL while it runs
    Column("at", Moment, nullable=False, index=True),
)


# --- removals ---------------------------------------------------------------------------------------------------------

removals = Table(
    "removals",
    metadata,
    Column("id", String, primary_key=True),
    Column("tenant", String, nullable=False),
    Column("step", String, nullable=False),  # the next one: mark, delete, seal, mirror; done
    Column("round", Integer, nullable=False, default=0),  # how often it had to mark again
    Column("filter", Json),  # until it is done
    Column("everything", Boolean, nullable=False),
    Column("block", Boolean, nullable=False),
    Column("reason", String, nullable=False),
    Column("requested_by", String, nullable=False),
    Column("requested_key", String),  # the API key's id
    Column("requested_at", Moment, nullable=False),
    Column("erase_now", Boolean, nullable=False, server_default=false()),
    Column("images", BigInteger, nullable=False, default=0),
    Column("by_state", Json, nullable=False, default=dict),
    Column("pictures", BigInteger, nullable=False, default=0),
    Column("intake_position", String),  # the last id of the tenant's stream at the request; NULL: not noted yet
    Column("drained", Boolean, nullable=False, server_default=false()),  # it has searched the intake since its mark
    Column("done", BigInteger, nullable=False, server_default=text("0")),  # progress: covered images that are deleted
    Column("total", BigInteger, nullable=False, server_default=text("0")),  # progress: covered images
    Column("queued", BigInteger, nullable=False, server_default=text("0")),  # entries that it took from the intake
    Column("verified_at", Moment),
    Column("waits_for", String),  # why it does not proceed, a sentence
    Column("receipt", String),  # as it was issued, byte for byte
    Column("erasing", String),  # the erasure that is processing it
    Column("erased_at", Moment),
    Column("erased", Boolean),
    Column("erasure_note", String),
    Column("erasure_receipt", String),
    Index(None, "tenant", "requested_at", "id"),
    Index(
        "ix_removals_unfinished",
        "step",
        "tenant",
        sqlite_where=text("step <> 'done'"),
        postgresql_where=text("step <> 'done'"),
    ),
    Index(
        "ix_removals_unerased",
        "verified_at",
        sqlite_where=text("erasure_receipt IS NULL"),
        postgresql_where=text("erasure_receipt IS NULL"),
    ),
)

covered_images = Table(
    "covered_images",
    metadata,
    Column("removal", String, ForeignKey(removals.c.id, ondelete="CASCADE"), primary_key=True),
    Column("image_id", String, primary_key=True),
    Column("picture", String, primary_key=True),
    Column("tenant", String, nullable=False),
    Column("state", String, nullable=False),  # before the removal
    Column("content_hash", String, nullable=False),
    Column("marked_by", String, nullable=False),  # the removal whose mark the point has
    Column("fields", Json, nullable=False),  # that the filter of a later removal may match
    Index(None, "tenant", "marked_by"),
)

refused_entries = Table(
    "refused_entries",  # that removals deleted from the intake: counted once, and never accepted if they come back
    metadata,
    Column("tenant", String, primary_key=True),
    Column("entry", String, primary_key=True),  # its position in the tenant's stream
    Column("removal", String, primary_key=True, index=True),  # one row for each removal that covers it
    Column("image_id", String),  # that it named, until the removal is done
)

tombstones = Table(
    "tombstones",
    metadata,
    Column("tenant", String, primary_key=True),
    Column("digest", String, primary_key=True),  # SHA-256 of a removed picture's key
    Column("removal", String, primary_key=True, index=True),  # one row for each removal that covers it
)

blocks = Table(
    "blocks",
    metadata,
    Column("tenant", String, primary_key=True),
    Column("kind", String, primary_key=True),  # content or subject
    Column("digest", String, primary_key=True),  # HMAC-SHA256; of earlier versions: SHA-256 of the text as it was sent
    Column("removal", String, primary_key=True, index=True),
)

receipt_log = Table(
    "receipt_log",
    metadata,
    Column("tenant", String, primary_key=True),
    Column("number", BigInteger, primary_key=True),
    Column("event", String, nullable=False),
    Column("removal", String, nullable=False),
    Column("at", Moment, nullable=False),
    Column("entry", String, nullable=False),  # as it was signed, byte for byte
    Column("digest", String, nullable=False),  # of these bytes
    Column("version", Integer, nullable=False),  # 1: imported, where an event may occur twice
    Index(None, "tenant", "removal"),
    Index(
        "uq_receipt_log_event",
        "tenant",
        "removal",
        "event",
        unique=True,
        sqlite_where=text("version > 1"),
        postgresql_where=text("version > 1"),
    ),
)

receipt_log_ends = Table(
    "receipt_log_ends",
    metadata,
    Column("tenant", String, primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("digest", String, nullable=False),
    Column("seal", String, nullable=False),  # signed
)


# --- jobs -------------------------------------------------------------------------------------------------------------

jobs = Table(
    "jobs",
    metadata,
    Column("id", String, primary_key=True),
    Column("tenant", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("state", String, nullable=False),
    Column("token", String),  # of the worker that began it last, compared by each of its writes
    Column("requested_by", String, nullable=False),
    Column("requested_at", Moment, nullable=False),
    Column("touched_at", Moment),
    Column("stage", String, nullable=False, default=""),
    Column("done", BigInteger, nullable=False, default=0),
    Column("total", BigInteger, nullable=False, default=0),
    Column("attempts", Integer, nullable=False, default=0),
    Column("error", String),
    Column("cancelled_by", String),  # who asked for its end
    Index(None, "tenant", "requested_at", "id"),
    Index(None, "state"),
)

questions = Table(
    "questions",
    metadata,
    Column("job", String, ForeignKey(jobs.c.id, ondelete="CASCADE"), primary_key=True),
    Column("tenant", String, nullable=False, index=True),
    Column("decision", String),  # whose counterfactual is requested
    Column("last", Integer),  # or the influence on so many decisions
    Column("result", String),  # JSON of `schemas.explanation.Counterfactual` or `Influence`
)

evaluations = Table(
    "evaluations",
    metadata,
    Column("job", String, ForeignKey(jobs.c.id, ondelete="CASCADE"), primary_key=True),
    Column("tenant", String, nullable=False, index=True),
    Column("encoder", String, nullable=False),  # whose vectors are compared
    Column("request", String, nullable=False),  # JSON of `schemas.evaluation_request.EvaluationRequest`
    Column("summary", String),  # JSON of `EvaluationSummary`
    Column("report", String),  # the name of its file
)

evaluation_pictures = Table(
    "evaluation_pictures",
    metadata,
    Column("job", String, ForeignKey(evaluations.c.job, ondelete="CASCADE"), primary_key=True),
    Column("file", String, primary_key=True),  # its name
    Column("pictures", Integer, nullable=False),  # how many came in it
)


# --- derived from images ----------------------------------------------------------------------------------------------

decisions = Table(
    "decisions",
    metadata,
    Column("number", BigId, primary_key=True, autoincrement=True),
    Column("tenant", String, nullable=False),
    Column("id", String, nullable=False),  # sorts by when it was made
    Column("version", Integer, nullable=False, default=0),  # incremented with each change
    Column("size", Integer, nullable=False),  # bytes of the body
    Column("asked_at", Moment, nullable=False),
    Column("asked_by", String, nullable=False),
    Column("label", String),
    Column("margin", Float, nullable=False),
    Column("voters", Integer, nullable=False),
    Column("scrubbed", Integer, nullable=False),
    Column("body", String, nullable=False),  # JSON of `schemas.stored_decision.StoredDecision`
    UniqueConstraint("tenant", "id"),
    Index(None, "tenant", "label", "id"),
    Index(
        "ix_decisions_unknown",
        "tenant",
        "id",
        sqlite_where=text("label IS NULL"),
        postgresql_where=text("label IS NULL"),
    ),
    Index(
        "ix_decisions_close",
        "tenant",
        "margin",
        "id",
        sqlite_where=text("label IS NOT NULL"),
        postgresql_where=text("label IS NOT NULL"),
    ),
)

decision_mentions = Table(
    "decision_mentions",
    metadata,
    Column("mention", BigInteger, primary_key=True),  # what it mentions; see `services.decisions.decision_mentions`
    Column("decision", BigId, ForeignKey(decisions.c.number, ondelete="CASCADE"), primary_key=True, index=True),
    sqlite_with_rowid=False,
)

covered_vectors = Table(
    "covered_vectors",  # of images that a running removal covers
    metadata,
    Column("removal", String, ForeignKey(removals.c.id, ondelete="CASCADE"), primary_key=True),
    Column("mention", BigInteger, primary_key=True),
)

judgements = Table(
    "judgements",
    metadata,
    Column("tenant", String, primary_key=True),
    Column("id", String, primary_key=True),  # sorts by when it was registered
    Column("encoder", String, nullable=False),
    Column("body", String),  # JSON of `schemas.judgement.Judgement`, once it was made
)

judgement_uses = Table(
    "judgement_uses",
    metadata,
    Column("tenant", String, primary_key=True),
    Column("encoder", String, primary_key=True),
    Column("at", Moment, nullable=False),
)


# --- changes and reviews of images ------------------------------------------------------------------------------------

changes = Table(
    "changes",  # of labels, fields and states, which can be undone
    metadata,
    Column("id", String, primary_key=True),  # sorts by when it was made
    Column("tenant", String, nullable=False),
    Column("action", String, nullable=False),
    Column("state", String, nullable=False),  # running, done or interrupted
    Column("requested_by", String, nullable=False),
    Column("made_at", Moment, nullable=False, index=True),
    Column("images", BigInteger, nullable=False),  # that were changed
    Column("skipped", BigInteger, nullable=False),  # that were left as they are
    Column("undoes", String),  # the change that it took back
    Column("undone_at", Moment),
    Column("undone_by", String),
    Index(None, "tenant", "id"),
    Index(
        "ix_changes_running",
        "tenant",
        sqlite_where=text("state = 'running'"),
        postgresql_where=text("state = 'running'"),
    ),
)

changed_images = Table(
    "changed_images",
    metadata,
    Column("change", String, ForeignKey(changes.c.id, ondelete="CASCADE"), primary_key=True),
    Column("image_id", String, primary_key=True),
    Column("tenant", String, nullable=False),
    Column("picture", String, nullable=False),  # the key of its picture: what came later is not changed
    Column("before", Json, nullable=False),  # the fields that were changed, as they were
    Column("state", String),  # that the change gave it; NULL: it changed labels or fields
    Column("revision", BigInteger, nullable=False),  # of the image after the change
    Column("applied", Boolean, nullable=False),  # whether it is known to be changed; rows are written before images
    Index(None, "tenant", "image_id"),
)

change_mentions = Table(
    "change_mentions",  # of values of former fields, so that a removal that names such a value finds them
    metadata,
    Column("mention", BigInteger, primary_key=True),  # see `services.changes.change_mentions`
    Column("change", String, primary_key=True),
    Column("image_id", String, primary_key=True),
    ForeignKeyConstraint(
        ["change", "image_id"],
        [changed_images.c.change, changed_images.c.image_id],
        name="fk_change_mentions_changed_images",
        ondelete="CASCADE",
    ),
    Index(None, "change", "image_id"),
)

review_marks = Table(
    "review_marks",  # images, suspects and decisions that somebody has looked at
    metadata,
    Column("tenant", String, primary_key=True),
    Column("kind", String, primary_key=True),
    Column("record", String, primary_key=True),  # the id of an item; see `schemas.review.ReviewItem`
    Column("decision", BigId, ForeignKey(decisions.c.number, ondelete="CASCADE"), index=True),  # of this kind only
    Column("seen", String, nullable=False),  # a digest of the image as it was; empty for decisions
    Column("by", String, nullable=False),
    Column("at", Moment, nullable=False),
)

review_claims = Table(
    "review_claims",  # so that two people do not review the same
    metadata,
    Column("tenant", String, primary_key=True),
    Column("kind", String, primary_key=True),
    Column("record", String, primary_key=True),
    Column("decision", BigId, ForeignKey(decisions.c.number, ondelete="CASCADE"), index=True),
    Column("key", String, nullable=False),  # the API key's id
    Column("by", String, nullable=False),
    Column("until", Moment, nullable=False),
    Index(None, "tenant", "key"),
)


# --- encoders ---------------------------------------------------------------------------------------------------------

encoders = Table(
    "encoders",
    metadata,
    Column("name", String, primary_key=True),
    Column("spec", Json, nullable=False),  # `schemas.encoder.EncoderSpec`
    Column("fill", Json),  # `schemas.encoder.FillSettings`
    Column("dropping", Boolean, nullable=False, default=False, server_default=false()),
)

active_encoder = Table(
    "active_encoder",
    metadata,
    Column("only", Integer, primary_key=True),  # 1: there is one
    Column("name", String, nullable=False),
    Column("before", String),
    Column("since", Moment, nullable=False),
)
