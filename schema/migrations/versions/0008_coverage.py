"""Coverage of the rungs without a dependency on the extension's own tables."""

from __future__ import annotations

from alembic import op

from schema.migrations.migrate import run_sql

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Make the view anew, under the owner's role; the Apache edition's reads tables of ours."""
    connection = op.get_bind()
    if connection.exec_driver_sql("SELECT edition FROM store_state").scalar_one() == "community":
        connection.exec_driver_sql("SET ROLE weir_maintenance")
        run_sql(connection, "0008_coverage_community")
        connection.exec_driver_sql("RESET ROLE")
