"""Which of the audio tracks of its container was read of a recording, so that the same one is read again."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

# SQLite drops a column by copying the table, and the copy must go on never reusing an id.
AUTOINCREMENT: dict[str, Any] = {"sqlite_autoincrement": True}


def upgrade() -> None:
    """Add it; of recordings that are there it is not known."""
    with op.batch_alter_table("recordings", table_kwargs=AUTOINCREMENT) as batch_op:
        batch_op.add_column(sa.Column("audio_track", sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column("audio_tracks", sa.Integer(), nullable=True))


def downgrade() -> None:
    """Take it away again; recordings are read by the track that is taken for the best, as before."""
    with op.batch_alter_table("recordings", table_kwargs=AUTOINCREMENT) as batch_op:
        batch_op.drop_column("audio_tracks")
        batch_op.drop_column("audio_track")
