"""Devices: what is registered of them, and nodes that were retired."""

from __future__ import annotations

from alembic import op

from schema.migrations.migrate import run_sql

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make everything, under the owner's role."""
    connection = op.get_bind()
    connection.exec_driver_sql("SET ROLE weir_maintenance")
    run_sql(connection, "0003_devices")
    connection.exec_driver_sql("RESET ROLE")
