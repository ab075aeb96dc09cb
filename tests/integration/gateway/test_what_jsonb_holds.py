"""What admission lets through, PostgreSQL's jsonb takes: asked of the real one."""

from __future__ import annotations

import psycopg
from hypothesis import HealthCheck, given, settings

from ingest.gateway.json_text import fault
from tests.unit.gateway.test_json_text import NESTING, texts


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts)
def test_jsonb_takes_what_is_not_refused(database_server: str, text: str) -> None:
    if fault(text.encode(), NESTING) is not None:
        return
    with psycopg.connect(database_server, autocommit=True) as connection:
        row = connection.execute("SELECT (%s::text)::jsonb::text", [text]).fetchone()
    assert row is not None
    # What is read back is not out of proportion to what was sent.
    assert len(row[0]) < 200 * len(text) + 1000
