"""The service: bulk jobs in shards, keys, idempotent requests, webhooks, consent, labels, and the feed of changes."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# SQLite cannot add a constraint to a table: it is copied instead, and the copy must go on never reusing an id.
AUTOINCREMENT: dict[str, Any] = {"sqlite_autoincrement": True}


def _row_id() -> sa.types.TypeEngine[int]:
    # SQLite numbers rows by itself only where the column is an INTEGER PRIMARY KEY.
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _document() -> sa.types.TypeEngine[Any]:
    return sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def _copied() -> Any:
    """Copy the table on SQLite, which cannot add a CHECK to the one that is there."""
    return "always" if op.get_bind().dialect.name == "sqlite" else "auto"


def upgrade() -> None:
    """Add what the service keeps."""
    op.create_table(
        "idempotent_requests",
        sa.Column("id", _row_id(), nullable=False),
        sa.Column("owner", sa.String(length=32), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("request_sha256", sa.String(length=64), nullable=False),
        sa.Column("gallery_id", _row_id(), nullable=True),
        sa.Column("token", sa.String(length=32), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("headers", _document(), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["gallery_id"],
            ["galleries.id"],
            name=op.f("fk_idempotent_requests_gallery_id_galleries"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_idempotent_requests")),
        sa.UniqueConstraint("owner", "key", name=op.f("uq_idempotent_requests_owner_key")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("idempotent_requests") as batch_op:
        batch_op.create_index(batch_op.f("ix_idempotent_requests_created_at"), ["created_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_idempotent_requests_gallery_id"), ["gallery_id"], unique=False)
    op.create_table(
        "api_keys",
        sa.Column("id", _row_id(), nullable=False),
        sa.Column("public_id", sa.String(length=32), nullable=False),
        sa.Column("secret_sha256", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("gallery_id", _row_id(), nullable=True),
        sa.Column("scopes", _document(), nullable=False),
        sa.Column("rate_limit_per_minute", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["gallery_id"], ["galleries.id"], name=op.f("fk_api_keys_gallery_id_galleries"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("public_id", name=op.f("uq_api_keys_public_id")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("api_keys") as batch_op:
        batch_op.create_index(batch_op.f("ix_api_keys_gallery_id"), ["gallery_id"], unique=False)
    op.create_table(
        "gallery_feeds",
        sa.Column("gallery_id", _row_id(), autoincrement=False, nullable=False),
        sa.Column("vectors_seq", sa.BigInteger(), nullable=False),
        sa.Column("speakers_seq", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["gallery_id"], ["galleries.id"], name=op.f("fk_gallery_feeds_gallery_id_galleries"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("gallery_id", name=op.f("pk_gallery_feeds")),
    )
    op.create_table(
        "index_changes",
        sa.Column("gallery_id", _row_id(), autoincrement=False, nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("encoder_id", sa.String(length=200), nullable=False),
        sa.Column("removed", sa.Boolean(), nullable=False),
        sa.Column("embedding_ids", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["encoder_id"], ["encoders.id"], name=op.f("fk_index_changes_encoder_id_encoders"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["gallery_id"], ["galleries.id"], name=op.f("fk_index_changes_gallery_id_galleries"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("gallery_id", "seq", name=op.f("pk_index_changes")),
    )
    op.create_table(
        "speaker_changes",
        sa.Column("gallery_id", _row_id(), autoincrement=False, nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("speaker_ids", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["gallery_id"], ["galleries.id"], name=op.f("fk_speaker_changes_gallery_id_galleries"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("gallery_id", "seq", name=op.f("pk_speaker_changes")),
    )
    op.create_table(
        "job_shards",
        sa.Column("id", _row_id(), nullable=False),
        sa.Column("job_id", _row_id(), nullable=False),
        sa.Column(
            "state",
            sa.Enum("queued", "running", "done", name="state", native_enum=False, create_constraint=True, length=32),
            nullable=False,
        ),
        sa.Column("items", sa.Integer(), nullable=False),
        sa.Column("estimated_s", sa.Double(), nullable=False),
        sa.Column("solo", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("lease_token", sa.String(length=32), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_shards_job_id_jobs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_shards")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("job_shards") as batch_op:
        batch_op.create_index(batch_op.f("ix_job_shards_job_id_state"), ["job_id", "state"], unique=False)
        batch_op.create_index(batch_op.f("ix_job_shards_state_lease_until"), ["state", "lease_until"], unique=False)
        batch_op.create_index(batch_op.f("ix_job_shards_state_sent_at"), ["state", "sent_at"], unique=False)
    op.create_table(
        "erased_files",
        sa.Column("id", _row_id(), nullable=False),
        sa.Column("job_id", _row_id(), nullable=False),
        sa.Column("uri_sha256", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_erased_files_job_id_jobs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_erased_files")),
        sa.UniqueConstraint("job_id", "uri_sha256", name=op.f("uq_erased_files_job_id_uri_sha256")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "speaker_labels",
        sa.Column("speaker_id", _row_id(), autoincrement=False, nullable=False),
        sa.Column("label", sa.String(length=200), nullable=False),
        sa.ForeignKeyConstraint(
            ["speaker_id"], ["speakers.id"], name=op.f("fk_speaker_labels_speaker_id_speakers"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("speaker_id", "label", name=op.f("pk_speaker_labels")),
    )
    with op.batch_alter_table("speaker_labels") as batch_op:
        batch_op.create_index(batch_op.f("ix_speaker_labels_label_speaker_id"), ["label", "speaker_id"], unique=False)
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", _row_id(), nullable=False),
        sa.Column("job_id", _row_id(), nullable=False),
        sa.Column("message_id", sa.String(length=64), nullable=False),
        sa.Column("url", sa.String(), nullable=False),
        sa.Column("payload", _document(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.String(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_webhook_deliveries_job_id_jobs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_deliveries")),
        sa.UniqueConstraint("message_id", name=op.f("uq_webhook_deliveries_message_id")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("webhook_deliveries") as batch_op:
        batch_op.create_index(
            batch_op.f("ix_webhook_deliveries_delivered_at_next_attempt_at"),
            ["delivered_at", "next_attempt_at"],
            unique=False,
        )
        batch_op.create_index(batch_op.f("ix_webhook_deliveries_job_id"), ["job_id"], unique=False)
    with op.batch_alter_table("galleries", table_kwargs=AUTOINCREMENT) as batch_op:
        batch_op.add_column(sa.Column("identification_threshold", sa.Double(), nullable=True))
        batch_op.add_column(sa.Column("verification_threshold", sa.Double(), nullable=True))
        batch_op.add_column(sa.Column("consent_required", sa.Boolean(), server_default=sa.false(), nullable=False))
        batch_op.add_column(sa.Column("retention_days", sa.Integer(), nullable=True))
    with op.batch_alter_table("job_items", table_kwargs=AUTOINCREMENT) as batch_op:
        batch_op.add_column(sa.Column("shard_id", _row_id(), nullable=True))
        batch_op.add_column(sa.Column("speaker", sa.String(length=200), nullable=True))
        batch_op.add_column(sa.Column("session", sa.String(length=200), nullable=True))
        batch_op.add_column(sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=True))
        batch_op.add_column(sa.Column("labels", _document(), nullable=True))
        batch_op.add_column(sa.Column("size_bytes", sa.BigInteger(), nullable=True))
        batch_op.add_column(sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False))
        batch_op.add_column(sa.Column("notice", sa.String(), nullable=True))
        batch_op.add_column(sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True))
        batch_op.create_index(batch_op.f("ix_job_items_shard_id_state"), ["shard_id", "state"], unique=False)
        batch_op.create_foreign_key(
            batch_op.f("fk_job_items_shard_id_job_shards"), "job_shards", ["shard_id"], ["id"], ondelete="SET NULL"
        )
    with op.batch_alter_table("jobs", recreate=_copied(), table_kwargs=AUTOINCREMENT) as batch_op:
        batch_op.add_column(sa.Column("audio_s", sa.Double(), server_default=sa.text("0"), nullable=False))
        batch_op.add_column(sa.Column("speech_s", sa.Double(), server_default=sa.text("0"), nullable=False))
        batch_op.add_column(
            sa.Column(
                "on_duplicate",
                sa.Enum(
                    "skip",
                    "relabel",
                    "error",
                    name="on_duplicate",
                    native_enum=False,
                    create_constraint=True,
                    length=32,
                ),
                server_default="skip",
                nullable=False,
            )
        )
        batch_op.add_column(sa.Column("options", _document(), server_default=sa.text("'{}'"), nullable=False))
        batch_op.add_column(sa.Column("cursor", _document(), nullable=True))
        batch_op.add_column(sa.Column("planned_at", sa.DateTime(timezone=True), nullable=True))
        batch_op.add_column(sa.Column("lease_token", sa.String(length=32), nullable=True))
        batch_op.add_column(sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True))
        batch_op.add_column(sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True))
        batch_op.add_column(sa.Column("webhook_url", sa.String(), nullable=True))
        batch_op.create_index(batch_op.f("ix_jobs_state_id"), ["state", "id"], unique=False)
    with op.batch_alter_table("recordings", table_kwargs=AUTOINCREMENT) as batch_op:
        batch_op.add_column(sa.Column("session", sa.String(length=200), nullable=True))
        batch_op.add_column(sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=True))
        batch_op.add_column(sa.Column("labels", _document(), server_default=sa.text("'[]'"), nullable=False))
        batch_op.add_column(sa.Column("speech_s", sa.Double(), nullable=True))
        batch_op.add_column(sa.Column("media_key", sa.String(length=200), nullable=True))
    with op.batch_alter_table("speakers") as batch_op:
        batch_op.add_column(sa.Column("consent_reference", sa.String(length=500), nullable=True))
        batch_op.add_column(sa.Column("consented_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    """Take it away again; recordings, speakers and vectors stay."""
    with op.batch_alter_table("speakers", table_kwargs=AUTOINCREMENT) as batch_op:
        batch_op.drop_column("consented_at")
        batch_op.drop_column("consent_reference")
    with op.batch_alter_table("recordings", table_kwargs=AUTOINCREMENT) as batch_op:
        batch_op.drop_column("media_key")
        batch_op.drop_column("speech_s")
        batch_op.drop_column("labels")
        batch_op.drop_column("recorded_at")
        batch_op.drop_column("session")
    with op.batch_alter_table("jobs", table_kwargs=AUTOINCREMENT) as batch_op:
        batch_op.drop_index(batch_op.f("ix_jobs_state_id"))
        batch_op.drop_column("webhook_url")
        batch_op.drop_column("sent_at")
        batch_op.drop_column("lease_until")
        batch_op.drop_column("lease_token")
        batch_op.drop_column("planned_at")
        batch_op.drop_column("cursor")
        batch_op.drop_column("options")
        batch_op.drop_constraint(op.f("ck_jobs_on_duplicate"), type_="check")
        batch_op.drop_column("on_duplicate")
        batch_op.drop_column("speech_s")
        batch_op.drop_column("audio_s")
    with op.batch_alter_table("job_items", table_kwargs=AUTOINCREMENT) as batch_op:
        batch_op.drop_constraint(batch_op.f("fk_job_items_shard_id_job_shards"), type_="foreignkey")
        batch_op.drop_index(batch_op.f("ix_job_items_shard_id_state"))
        batch_op.drop_column("finished_at")
        batch_op.drop_column("notice")
        batch_op.drop_column("attempts")
        batch_op.drop_column("size_bytes")
        batch_op.drop_column("labels")
        batch_op.drop_column("recorded_at")
        batch_op.drop_column("session")
        batch_op.drop_column("speaker")
        batch_op.drop_column("shard_id")
    with op.batch_alter_table("galleries", table_kwargs=AUTOINCREMENT) as batch_op:
        batch_op.drop_column("retention_days")
        batch_op.drop_column("consent_required")
        batch_op.drop_column("verification_threshold")
        batch_op.drop_column("identification_threshold")
    with op.batch_alter_table("webhook_deliveries") as batch_op:
        batch_op.drop_index(batch_op.f("ix_webhook_deliveries_job_id"))
        batch_op.drop_index(batch_op.f("ix_webhook_deliveries_delivered_at_next_attempt_at"))
    op.drop_table("webhook_deliveries")
    with op.batch_alter_table("speaker_labels") as batch_op:
        batch_op.drop_index(batch_op.f("ix_speaker_labels_label_speaker_id"))
    op.drop_table("speaker_labels")
    op.drop_table("erased_files")
    with op.batch_alter_table("job_shards") as batch_op:
        batch_op.drop_index(batch_op.f("ix_job_shards_state_sent_at"))
        batch_op.drop_index(batch_op.f("ix_job_shards_state_lease_until"))
        batch_op.drop_index(batch_op.f("ix_job_shards_job_id_state"))
    op.drop_table("job_shards")
    op.drop_table("speaker_changes")
    op.drop_table("index_changes")
    op.drop_table("gallery_feeds")
    with op.batch_alter_table("api_keys") as batch_op:
        batch_op.drop_index(batch_op.f("ix_api_keys_gallery_id"))
    op.drop_table("api_keys")
    with op.batch_alter_table("idempotent_requests") as batch_op:
        batch_op.drop_index(batch_op.f("ix_idempotent_requests_gallery_id"))
        batch_op.drop_index(batch_op.f("ix_idempotent_requests_created_at"))
    op.drop_table("idempotent_requests")
