"""Migrations of the database: Alembic over psycopg 3, the SQL in files of their own.

In reading order: ``migrate`` (the entry: one advisory lock, then Alembic), ``env`` (what Alembic runs),
``versions/`` (one small file a revision, naming its SQL files), ``sql/`` (the statements).
"""
