"""What decisions are made of: the quality of utterances, who speaks in recordings, calibrations, operating points."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# SQLite changes a constraint by copying the table, and the copy must go on never reusing an id.
AUTOINCREMENT: dict[str, Any] = {"sqlite_autoincrement": True}


def _row_id() -> sa.types.TypeEngine[int]:
    # SQLite numbers rows by itself only where the column is an INTEGER PRIMARY KEY.
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _document() -> sa.types.TypeEngine[Any]:
    return sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    """Add it all; nothing that is there changes, and nobody has looked at its quality."""
    op.create_table(
        "calibrations",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("encoder_ids", _document(), nullable=False),
        sa.Column("document", _document(), nullable=False),
        sa.Column("gallery_id", _row_id(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["gallery_id"], ["galleries.id"], name=op.f("fk_calibrations_gallery_id_galleries"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_calibrations")),
    )
    with op.batch_alter_table("calibrations") as batch_op:
        batch_op.create_index(batch_op.f("ix_calibrations_gallery_id"), ["gallery_id"], unique=False)
    with op.batch_alter_table("galleries", table_kwargs=AUTOINCREMENT) as batch_op:
        batch_op.add_column(sa.Column("second_encoder_id", sa.String(length=200), nullable=True))
        batch_op.add_column(sa.Column("calibration_id", sa.String(length=64), nullable=True))
        batch_op.add_column(sa.Column("target_fpir", sa.Double(), nullable=True))
        batch_op.add_column(sa.Column("possible_fpir", sa.Double(), nullable=True))
        batch_op.add_column(sa.Column("possible_threshold", sa.Double(), nullable=True))
        batch_op.add_column(sa.Column("target_p_fa", sa.Double(), nullable=True))
        batch_op.add_column(sa.Column("score_normalization", sa.Boolean(), server_default=sa.false(), nullable=False))
        batch_op.create_foreign_key(
            batch_op.f("fk_galleries_second_encoder_id_encoders"),
            "encoders",
            ["second_encoder_id"],
            ["id"],
            ondelete="RESTRICT",
        )
        batch_op.create_foreign_key(
            batch_op.f("fk_galleries_calibration_id_calibrations"),
            "calibrations",
            ["calibration_id"],
            ["id"],
            ondelete="SET NULL",
        )
    with op.batch_alter_table("gallery_encoders") as batch_op:
        batch_op.add_column(sa.Column("possible_threshold", sa.Double(), nullable=True))
        batch_op.add_column(sa.Column("calibration_id", sa.String(length=64), nullable=True))
        batch_op.create_foreign_key(
            batch_op.f("fk_gallery_encoders_calibration_id_calibrations"),
            "calibrations",
            ["calibration_id"],
            ["id"],
            ondelete="SET NULL",
        )
    with op.batch_alter_table("recordings", table_kwargs=AUTOINCREMENT) as batch_op:
        batch_op.add_column(sa.Column("voices", sa.Integer(), nullable=True))
    with op.batch_alter_table("utterances", table_kwargs=AUTOINCREMENT) as batch_op:
        batch_op.add_column(sa.Column("voice", sa.Integer(), nullable=True))
        for name in ("net_speech_s", "snr_db", "clipped_share", "bandwidth_hz", "level_dbfs"):
            batch_op.add_column(sa.Column(name, sa.Double(), nullable=True))


def downgrade() -> None:
    """Take it away again; utterances, vectors and thresholds on the score stay."""
    with op.batch_alter_table("utterances", table_kwargs=AUTOINCREMENT) as batch_op:
        for name in ("level_dbfs", "bandwidth_hz", "clipped_share", "snr_db", "net_speech_s", "voice"):
            batch_op.drop_column(name)
    with op.batch_alter_table("recordings", table_kwargs=AUTOINCREMENT) as batch_op:
        batch_op.drop_column("voices")
    with op.batch_alter_table("gallery_encoders") as batch_op:
        batch_op.drop_constraint(batch_op.f("fk_gallery_encoders_calibration_id_calibrations"), type_="foreignkey")
        batch_op.drop_column("calibration_id")
        batch_op.drop_column("possible_threshold")
    with op.batch_alter_table("galleries", table_kwargs=AUTOINCREMENT) as batch_op:
        batch_op.drop_constraint(batch_op.f("fk_galleries_calibration_id_calibrations"), type_="foreignkey")
        batch_op.drop_constraint(batch_op.f("fk_galleries_second_encoder_id_encoders"), type_="foreignkey")
        for name in (
            "score_normalization",
            "target_p_fa",
            "possible_threshold",
            "possible_fpir",
            "target_fpir",
            "calibration_id",
            "second_encoder_id",
        ):
            batch_op.drop_column(name)
    with op.batch_alter_table("calibrations") as batch_op:
        batch_op.drop_index(batch_op.f("ix_calibrations_gallery_id"))
    op.drop_table("calibrations")
