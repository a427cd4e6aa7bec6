"""The record as first released: galleries, speakers, recordings, utterances, embeddings, enrollments, jobs.

Types are spelled out rather than imported from the models, which will have moved on when this runs.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _row_id() -> sa.types.TypeEngine[int]:
    # SQLite numbers rows by itself only where the column is an INTEGER PRIMARY KEY.
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make every table."""
    op.create_table(
        "encoders",
        sa.Column("id", sa.String(length=200), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("family", sa.String(length=64), nullable=False),
        sa.Column("weights_sha256", sa.String(length=64), nullable=False),
        sa.Column("front_end", sa.String(length=64), nullable=False),
        sa.Column("dim", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_encoders")),
    )
    op.create_table(
        "galleries",
        sa.Column("id", _row_id(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("encoder_id", sa.String(length=200), nullable=False),
        sa.Column("dim", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("dim = 192", name=op.f("ck_galleries_dim")),
        sa.ForeignKeyConstraint(
            ["encoder_id"], ["encoders.id"], name=op.f("fk_galleries_encoder_id_encoders"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_galleries")),
        sa.UniqueConstraint("name", name=op.f("uq_galleries_name")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "jobs",
        sa.Column("id", _row_id(), nullable=False),
        sa.Column("gallery_id", _row_id(), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "queued",
                "planning",
                "running",
                "succeeded",
                "succeeded_with_errors",
                "failed",
                "canceled",
                name="state",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("found", sa.Integer(), nullable=False),
        sa.Column("done", sa.Integer(), nullable=False),
        sa.Column("duplicate", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["gallery_id"], ["galleries.id"], name=op.f("fk_jobs_gallery_id_galleries"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_jobs_gallery_id", "jobs", ["gallery_id"])
    op.create_table(
        "recordings",
        sa.Column("id", _row_id(), nullable=False),
        sa.Column("gallery_id", _row_id(), nullable=False),
        sa.Column("content_sha256", sa.String(length=64), nullable=False),
        sa.Column("uri", sa.String(), nullable=False),
        sa.Column("duration_s", sa.Double(), nullable=True),
        sa.Column("sample_rate_hz", sa.Integer(), nullable=True),
        sa.Column("channels", sa.Integer(), nullable=True),
        sa.Column("container", sa.String(length=64), nullable=True),
        sa.Column("codec", sa.String(length=64), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), nullable=True),
        sa.Column(
            "state",
            sa.Enum("ready", "partial", "failed", name="state", native_enum=False, create_constraint=True, length=32),
            nullable=False,
        ),
        sa.Column("error_code", sa.String(length=64), nullable=True),
        sa.Column("error_message", sa.String(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["gallery_id"], ["galleries.id"], name=op.f("fk_recordings_gallery_id_galleries"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_recordings")),
        sa.UniqueConstraint("gallery_id", "content_sha256", name=op.f("uq_recordings_gallery_id_content_sha256")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_recordings_gallery_id_id", "recordings", ["gallery_id", "id"])
    op.create_table(
        "speakers",
        sa.Column("id", _row_id(), nullable=False),
        sa.Column("gallery_id", _row_id(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["gallery_id"], ["galleries.id"], name=op.f("fk_speakers_gallery_id_galleries"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_speakers")),
        sa.UniqueConstraint("gallery_id", "name", name=op.f("uq_speakers_gallery_id_name")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "job_items",
        sa.Column("id", _row_id(), nullable=False),
        sa.Column("job_id", _row_id(), nullable=False),
        sa.Column("uri", sa.String(), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "queued",
                "running",
                "done",
                "duplicate",
                "failed",
                name="state",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("recording_id", _row_id(), nullable=True),
        sa.Column("error_code", sa.String(length=64), nullable=True),
        sa.Column("error_message", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_items_job_id_jobs"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["recording_id"], ["recordings.id"], name=op.f("fk_job_items_recording_id_recordings"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_items")),
        sa.UniqueConstraint("job_id", "uri", name=op.f("uq_job_items_job_id_uri")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_job_items_job_id_state_id", "job_items", ["job_id", "state", "id"])
    op.create_index("ix_job_items_recording_id", "job_items", ["recording_id"])
    op.create_table(
        "utterances",
        sa.Column("id", _row_id(), nullable=False),
        sa.Column("recording_id", _row_id(), nullable=False),
        sa.Column("channel", sa.Integer(), nullable=True),
        sa.Column("start_s", sa.Double(), nullable=False),
        sa.Column("end_s", sa.Double(), nullable=False),
        sa.CheckConstraint("start_s >= 0 AND end_s > start_s", name=op.f("ck_utterances_stretch")),
        sa.ForeignKeyConstraint(
            ["recording_id"], ["recordings.id"], name=op.f("fk_utterances_recording_id_recordings"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_utterances")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_utterances_recording_id", "utterances", ["recording_id"])
    op.create_table(
        "embeddings",
        sa.Column("id", _row_id(), nullable=False),
        sa.Column("gallery_id", _row_id(), nullable=False),
        sa.Column("utterance_id", _row_id(), nullable=False),
        sa.Column("encoder_id", sa.String(length=200), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.Column("checksum", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["encoder_id"], ["encoders.id"], name=op.f("fk_embeddings_encoder_id_encoders"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["gallery_id"], ["galleries.id"], name=op.f("fk_embeddings_gallery_id_galleries"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["utterance_id"], ["utterances.id"], name=op.f("fk_embeddings_utterance_id_utterances"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_embeddings")),
        sa.UniqueConstraint("utterance_id", "encoder_id", name=op.f("uq_embeddings_utterance_id_encoder_id")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_embeddings_projection", "embeddings", ["gallery_id", "encoder_id", "id", "checksum"])
    op.create_table(
        "enrollments",
        sa.Column("id", _row_id(), nullable=False),
        sa.Column("speaker_id", _row_id(), nullable=False),
        sa.Column("utterance_id", _row_id(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["speaker_id"], ["speakers.id"], name=op.f("fk_enrollments_speaker_id_speakers"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["utterance_id"], ["utterances.id"], name=op.f("fk_enrollments_utterance_id_utterances"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_enrollments")),
        sa.UniqueConstraint("speaker_id", "utterance_id", name=op.f("uq_enrollments_speaker_id_utterance_id")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_enrollments_utterance_id", "enrollments", ["utterance_id"])


def downgrade() -> None:
    """Drop every table, and the record with it."""
    op.drop_table("enrollments")
    op.drop_table("embeddings")
    op.drop_table("utterances")
    op.drop_table("job_items")
    op.drop_table("speakers")
    op.drop_table("recordings")
    op.drop_table("jobs")
    op.drop_table("galleries")
    op.drop_table("encoders")
