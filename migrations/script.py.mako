"""${message}.

Keep it compatible with the previous release: add nullable columns, fill them, and drop the old ones a release later.
On Postgres set `lock_timeout` before altering a large table; on SQLite alter inside `op.batch_alter_table`.
"""

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}


def upgrade() -> None:
    """Apply the change."""
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    """Undo the change."""
    ${downgrades if downgrades else "pass"}
