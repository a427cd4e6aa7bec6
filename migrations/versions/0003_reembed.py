"""Galleries under several encoders: what each one used keeps, and how far the way to another one is."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def _row_id() -> sa.types.TypeEngine[int]:
    # SQLite numbers rows by itself only where the column is an INTEGER PRIMARY KEY.
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add what a change of encoder needs."""
    op.create_table(
        "gallery_encoders",
        sa.Column("gallery_id", _row_id(), autoincrement=False, nullable=False),
        sa.Column("encoder_id", sa.String(length=200), nullable=False),
        sa.Column("identification_threshold", sa.Double(), nullable=True),
        sa.Column("verification_threshold", sa.Double(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("left_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["encoder_id"], ["encoders.id"], name=op.f("fk_gallery_encoders_encoder_id_encoders"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["gallery_id"], ["galleries.id"], name=op.f("fk_gallery_encoders_gallery_id_galleries"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("gallery_id", "encoder_id", name=op.f("pk_gallery_encoders")),
    )
    op.create_table(
        "reembeddings",
        sa.Column("recording_id", _row_id(), autoincrement=False, nullable=False),
        sa.Column("encoder_id", sa.String(length=200), nullable=False),
        sa.Column("lease_token", sa.String(length=32), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("error_code", sa.String(length=64), nullable=True),
        sa.Column("error_message", sa.String(), nullable=True),
        sa.Column("tried_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["encoder_id"], ["encoders.id"], name=op.f("fk_reembeddings_encoder_id_encoders"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["recording_id"],
            ["recordings.id"],
            name=op.f("fk_reembeddings_recording_id_recordings"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("recording_id", "encoder_id", name=op.f("pk_reembeddings")),
    )


def downgrade() -> None:
    """Take it away again; vectors of every encoder stay."""
    op.drop_table("reembeddings")
    op.drop_table("gallery_encoders")
