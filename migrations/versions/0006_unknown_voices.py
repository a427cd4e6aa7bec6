"""Unknown voices: who is heard again and again without a name, and what people said of them."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def _row_id() -> sa.types.TypeEngine[int]:
    # SQLite numbers rows by itself only where the column is an INTEGER PRIMARY KEY.
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _document() -> sa.types.TypeEngine[Any]:
    return sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    """Add the tables; no voice is known yet."""
    op.create_table(
        "clusterings",
        sa.Column("gallery_id", _row_id(), autoincrement=False, nullable=False),
        sa.Column("last_number", sa.Integer(), nullable=False),
        sa.Column("encoder_id", sa.String(length=200), nullable=True),
        sa.Column("utterances", sa.Integer(), nullable=True),
        sa.Column("rule", _document(), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["encoder_id"], ["encoders.id"], name=op.f("fk_clusterings_encoder_id_encoders"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["gallery_id"], ["galleries.id"], name=op.f("fk_clusterings_gallery_id_galleries"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("gallery_id", name=op.f("pk_clusterings")),
    )
    op.create_table(
        "unknown_voices",
        sa.Column("id", _row_id(), nullable=False),
        sa.Column("gallery_id", _row_id(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["gallery_id"], ["galleries.id"], name=op.f("fk_unknown_voices_gallery_id_galleries"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_unknown_voices")),
        sa.UniqueConstraint("gallery_id", "number", name=op.f("uq_unknown_voices_gallery_id_number")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "unknown_voice_members",
        sa.Column("utterance_id", _row_id(), autoincrement=False, nullable=False),
        sa.Column("voice_id", _row_id(), nullable=False),
        sa.Column("score", sa.Double(), nullable=True),
        sa.Column("pinned", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.ForeignKeyConstraint(
            ["utterance_id"],
            ["utterances.id"],
            name=op.f("fk_unknown_voice_members_utterance_id_utterances"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["voice_id"],
            ["unknown_voices.id"],
            name=op.f("fk_unknown_voice_members_voice_id_unknown_voices"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("utterance_id", name=op.f("pk_unknown_voice_members")),
    )
    with op.batch_alter_table("unknown_voice_members") as batch_op:
        batch_op.create_index(batch_op.f("ix_unknown_voice_members_voice_id"), ["voice_id"], unique=False)
    op.create_table(
        "unknown_voices_apart",
        sa.Column("voice_id", _row_id(), autoincrement=False, nullable=False),
        sa.Column("utterance_id", _row_id(), autoincrement=False, nullable=False),
        sa.ForeignKeyConstraint(
            ["utterance_id"],
            ["utterances.id"],
            name=op.f("fk_unknown_voices_apart_utterance_id_utterances"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["voice_id"],
            ["unknown_voices.id"],
            name=op.f("fk_unknown_voices_apart_voice_id_unknown_voices"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("voice_id", "utterance_id", name=op.f("pk_unknown_voices_apart")),
    )
    with op.batch_alter_table("unknown_voices_apart") as batch_op:
        batch_op.create_index(batch_op.f("ix_unknown_voices_apart_utterance_id"), ["utterance_id"], unique=False)


def downgrade() -> None:
    """Take it away again; the utterances stay, unnamed as they were."""
    with op.batch_alter_table("unknown_voices_apart") as batch_op:
        batch_op.drop_index(batch_op.f("ix_unknown_voices_apart_utterance_id"))
    op.drop_table("unknown_voices_apart")
    with op.batch_alter_table("unknown_voice_members") as batch_op:
        batch_op.drop_index(batch_op.f("ix_unknown_voice_members_voice_id"))
    op.drop_table("unknown_voice_members")
    op.drop_table("unknown_voices")
    op.drop_table("clusterings")
