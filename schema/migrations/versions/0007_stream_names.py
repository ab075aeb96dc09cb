"""Which names the events of a stream have."""

from __future__ import annotations

from alembic import op

from schema.migrations.migrate import run_sql

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Make the table, under the owner's role; maintenance fills it."""
    connection = op.get_bind()
    connection.exec_driver_sql("SET ROLE weir_maintenance")
    run_sql(connection, "0007_stream_names")
    connection.exec_driver_sql("RESET ROLE")
