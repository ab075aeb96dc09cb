"""Tenancy: accounts, invitations, sessions, and what a bucket is beyond its events."""

from __future__ import annotations

from alembic import op

from schema.migrations.migrate import run_sql

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make everything, under the owner's role."""
    connection = op.get_bind()
    connection.exec_driver_sql("SET ROLE weir_maintenance")
    run_sql(connection, "0002_tenancy")
    connection.exec_driver_sql("RESET ROLE")
