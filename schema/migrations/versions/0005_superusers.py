"""Superusers are made by an operator alone."""

from __future__ import annotations

from alembic import op

from schema.migrations.migrate import run_sql

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Take the column's rights from the query API, under the owner's role."""
    connection = op.get_bind()
    connection.exec_driver_sql("SET ROLE weir_maintenance")
    run_sql(connection, "0005_superusers")
    connection.exec_driver_sql("RESET ROLE")
