"""The spine: roles, tenancy, events, node reports, the rollup ladder, offsets, fences, ledger."""

from __future__ import annotations

from alembic import op

from schema.migrations.migrate import run_sql

revision = "0001"
down_revision = None

APACHE = "apache"
COMMUNITY = "community"


def upgrade() -> None:
    """Make everything, under the owner's role."""
    connection = op.get_bind()
    run_sql(connection, "0001_roles")
    license_name = connection.exec_driver_sql("SELECT current_setting('timescaledb.license')").scalar_one()
    edition = COMMUNITY if license_name == "timescale" else APACHE
    connection.exec_driver_sql("SET ROLE weir_maintenance")
    run_sql(connection, "0001_tenancy")
    run_sql(connection, "0001_events")
    run_sql(connection, f"0001_rollups_{edition}")
    connection.exec_driver_sql("INSERT INTO store_state (edition) VALUES (%s)", (edition,))
    run_sql(connection, "0001_grants")
    connection.exec_driver_sql("RESET ROLE")
    connection.exec_driver_sql(
        "GRANT SELECT ON alembic_version TO weir_gateway, weir_writer, weir_maintenance, weir_api"
    )
