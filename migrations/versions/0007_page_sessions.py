"""Sessions of the web page: a browser holds a random id in a cookie, the record its hash and whose key it is."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def _row_id() -> sa.types.TypeEngine[int]:
    # SQLite numbers rows by itself only where the column is an INTEGER PRIMARY KEY.
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the table; nobody is signed in yet."""
    op.create_table(
        "page_sessions",
        sa.Column("id", _row_id(), nullable=False),
        sa.Column("token_sha256", sa.String(length=64), nullable=False),
        sa.Column("api_key_id", _row_id(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["api_key_id"], ["api_keys.id"], name=op.f("fk_page_sessions_api_key_id_api_keys"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_page_sessions")),
        sa.UniqueConstraint("token_sha256", name=op.f("uq_page_sessions_token_sha256")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("page_sessions") as batch_op:
        batch_op.create_index(batch_op.f("ix_page_sessions_api_key_id"), ["api_key_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_page_sessions_expires_at"), ["expires_at"], unique=False)


def downgrade() -> None:
    """Take it away again; whoever was signed in signs in anew after the next upgrade."""
    with op.batch_alter_table("page_sessions") as batch_op:
        batch_op.drop_index(batch_op.f("ix_page_sessions_expires_at"))
        batch_op.drop_index(batch_op.f("ix_page_sessions_api_key_id"))
    op.drop_table("page_sessions")
