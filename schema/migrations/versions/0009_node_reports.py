"""Node statistics from the index alone."""

from __future__ import annotations

from alembic import op

from schema.migrations.migrate import run_sql

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Make the identity's index anew, under the owner's role; reports wait for as long as that takes."""
    connection = op.get_bind()
    connection.exec_driver_sql("SET ROLE weir_maintenance")
    run_sql(connection, "0009_node_reports")
    connection.exec_driver_sql("RESET ROLE")
