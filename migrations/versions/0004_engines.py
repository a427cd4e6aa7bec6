"""The engine that searches a gallery, for galleries that were migrated to one of their own."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# SQLite drops a column by copying the table, and the copy must go on never reusing an id.
AUTOINCREMENT: dict[str, Any] = {"sqlite_autoincrement": True}


def upgrade() -> None:
    """Add the engine; every gallery keeps the setting's."""
    with op.batch_alter_table("galleries", table_kwargs=AUTOINCREMENT) as batch_op:
        batch_op.add_column(sa.Column("index_engine", sa.String(length=32), nullable=True))


def downgrade() -> None:
    """Take it away again; every gallery is searched by the setting's engine."""
    with op.batch_alter_table("galleries", table_kwargs=AUTOINCREMENT) as batch_op:
        batch_op.drop_column("index_engine")
