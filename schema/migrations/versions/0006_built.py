"""What questions read of the ladder: what is built of each rung, and up to where."""

from __future__ import annotations

from alembic import op

from schema.migrations.migrate import run_sql

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Make the views, under the owner's role."""
    connection = op.get_bind()
    edition = connection.exec_driver_sql("SELECT edition FROM store_state").scalar_one()
    connection.exec_driver_sql("SET ROLE weir_maintenance")
    run_sql(connection, f"0006_built_{edition}")
    connection.exec_driver_sql("RESET ROLE")
