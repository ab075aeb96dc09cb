"""docs/calls.md is true: every documented call is served, every status has a test that looks for it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
from prometheus_client import CollectorRegistry

from api.app import build_app, clients
from api.surfaces.described import whole
from schema.settings import ApiSettings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/calls.md").read_text(encoding="utf-8")
NOWHERE = ApiSettings(database_dsn="postgresql://127.0.0.1:9/none", kafka_bootstrap="127.0.0.1:9")

# What the five documents say: their calls, and the statuses that they give each.
ONE = "/api/bucket/:id"
DOCUMENTED: dict[str, set[int]] = {
    f"DELETE {ONE}/data/events/delete_all": {200, 500},
    f"POST {ONE}/data/events": {200, 400, 500},
    f"POST {ONE}/data/events/stats": {200, 400, 500},
    f"GET {ONE}/data/eventsKeysByApp": {200, 400, 500},
    "POST /api/bucket/create_classic": {200, 400, 403, 500},
    f"GET {ONE}/current_role": {200},
    f"GET {ONE}/subscription": {200, 404, 500},
    f"POST {ONE}/add_user": {200, 400, 403},
    f"GET {ONE}": {200},
    "GET /api/bucket/": {200, 500},
    f"GET {ONE}/meta_servers": {200, 500},
    f"GET {ONE}/users_authorized": {200, 500},
    f"POST {ONE}/upgrade": {200, 400, 403, 500},
    f"PUT {ONE}/start_trial": {200, 400},
    f"DELETE {ONE}": {200, 500},
    f"DELETE {ONE}/invitation": {200, 400, 500},
    f"POST {ONE}/remove_user": {400, 403, 404, 500},
    f"GET {ONE}/payment/charges": {200, 400},
    f"PUT {ONE}/feedback": {200, 400, 500},
    f"POST {ONE}/manage_notif": {404, 500},
    f"POST {ONE}/promote_user": {400, 403, 404},
    f"POST {ONE}/transfer_ownership": {200, 400, 403, 404},
    f"PUT {ONE}": {400, 500},
    f"PUT {ONE}/user_options": {200, 400},
    "GET /devices/:uuid/events/:eventName": {200, 400, 401, 404},
    "GET /device_data": {200},
    "POST /bucket/:id/stats": {200, 400, 403, 404},
}


class Row(NamedTuple):
    """One line of a table: a call, a status, and the tests named for it (file, function)."""

    call: str
    status: int
    tests: list[tuple[str, str]]


def rows() -> Iterator[Row]:
    """The page's tables; a call that is left out is that of the line above."""
    call = ""
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and len(cells) == 4 and cells[1].isdecimal():
            call = cells[0].strip("`") or call
            yield Row(call, int(cells[1]), re.findall(r"([\w/]+\.py)::(\w+)", cells[3]))


ROWS = list(rows())


@cache
def sources(file: str) -> dict[str, str]:
    """The functions of a test file, each with its source, and that of what it names of its module."""
    text = (ROOT / "tests/integration" / file).read_text(encoding="utf-8")
    parts: dict[str, str] = {}
    for node in ast.parse(text).body:
        names = [node.name] if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else []
        if isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names = [node.target.id]
        decorators = getattr(node, "decorator_list", [])
        source = "\n".join(ast.get_source_segment(text, part) or "" for part in [*decorators, node])
        parts |= dict.fromkeys(names, source)
    return {
        name: "\n".join([source, *(parts[word] for word in set(re.findall(r"\w+", source)) & parts.keys())])
        for name, source in parts.items()
    }


def test_the_page_has_every_documented_call_and_status() -> None:
    listed: dict[str, set[int]] = {}
    for row in ROWS:
        listed.setdefault(row.call, set()).add(row.status)
    assert {call: statuses - listed.get(call, set()) for call, statuses in DOCUMENTED.items()} == {
        call: set() for call in DOCUMENTED
    }
    assert set(listed) == set(DOCUMENTED)


async def test_every_documented_call_is_served() -> None:
    async with clients(NOWHERE) as parts:
        app = build_app(NOWHERE, parts, CollectorRegistry())
        served = {
            f"{route.method} {re.sub('{[^}]*}', ':', route.resource.canonical)}"
            for route in app.router.routes()
            if route.resource is not None
        }
    missing = [call for call in DOCUMENTED if re.sub(r":\w+", ":", call) not in served]
    assert missing == []


def test_every_status_is_in_the_description() -> None:
    described = {
        f"{operation.method} {re.sub('{[^}]*}', ':', operation.path)}": set(operation.answers)
        for operation in whole.OPERATIONS
    }
    missing = [row[:2] for row in ROWS if row.status not in described[re.sub(r":\w+", ":", row.call)]]
    assert missing == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.call} {row.status}")
def test_every_status_has_a_test_that_looks_for_it(row: Row) -> None:
    assert row.tests
    for file, name in row.tests:
        source = sources(file).get(name)
        assert source is not None, f"{file} has no {name}"
        # What is 200 may be told by its body alone.
        assert str(row.status) in source or (row.status == 200 and ".body" in source), f"{file}::{name}"


def test_every_test_that_the_page_names_exists() -> None:
    named = re.findall(r"([\w/]+\.py)::(\w+)", PAGE)
    missing = [(file, name) for file, name in named if name not in sources(file)]
    assert missing == []
