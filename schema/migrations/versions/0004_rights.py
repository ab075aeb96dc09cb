"""Rights that nobody used are taken back."""

from __future__ import annotations

from alembic import op

from schema.migrations.migrate import run_sql

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Take them back, under the owner's role; a session's temporary tables stay with the writer."""
    connection = op.get_bind()
    connection.exec_driver_sql("SET ROLE weir_maintenance")
    run_sql(connection, "0004_rights")
    connection.exec_driver_sql("RESET ROLE")
    database = connection.exec_driver_sql("SELECT quote_ident(current_database())").scalar_one()
    # Only the database's owner can; for anybody else this is a warning.
    connection.exec_driver_sql(f"REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC")
