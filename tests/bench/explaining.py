"""What the query API reads for a question: every statement that it runs, run again under EXPLAIN.

The API runs inside this process for it, on pools whose connections note what they are asked; nothing in the
API knows. A statement is explained with the parameters that it had, in a session with the same settings.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import aiohttp
import asyncpg
import orjson
from asyncpg.cursor import CursorFactory
from prometheus_client import CollectorRegistry
from yarl import URL

from api.app import Clients, build_app, clients
from api.http.serving import Listening, listening
from schema.settings import ApiSettings
from tests.bench.questions import Request
from tests.bench.recount import Void

_ANSWER_SECONDS = 60
# Smaller tables are read faster as they lie; so are smaller chunks, such as today's just after midnight.
_FEW_ROWS = 1_000
_FEW_ROWS_OF_A_CHUNK = 500
# A chunk's table; of the table that a continuous aggregate keeps its rows in: the aggregate.
_NAMES = """
SELECT chunk_name, hypertable_name FROM timescaledb_information.chunks
UNION ALL
SELECT materialization_hypertable_name, view_name FROM timescaledb_information.continuous_aggregates
"""


if TYPE_CHECKING:
    _Connection = asyncpg.Connection[asyncpg.Record]
else:
    _Connection = asyncpg.Connection


@dataclass(frozen=True, slots=True)
class Asked:
    """A statement, and its arguments."""

    text: str
    arguments: tuple[Any, ...]


class Noting(_Connection):
    """A connection that notes what it is asked."""

    noted: ClassVar[list[Asked]] = []

    async def fetch(self, query: str, *args: Any, **options: Any) -> Any:
        self.noted.append(Asked(query, args))
        return await super().fetch(query, *args, **options)

    async def fetchrow(self, query: str, *args: Any, **options: Any) -> Any:
        self.noted.append(Asked(query, args))
        return await super().fetchrow(query, *args, **options)

    async def fetchval(self, query: str, *args: Any, **options: Any) -> Any:
        self.noted.append(Asked(query, args))
        return await super().fetchval(query, *args, **options)

    def cursor(self, query: str, *args: Any, **options: Any) -> CursorFactory[Any]:
        self.noted.append(Asked(query, args))
        return super().cursor(query, *args, **options)


@dataclass(slots=True)
class Reading:
    """What a question's statements read, added up; ``text``: their plans.

    By what chunks are chunks of: ``indexes``, scans begun of each; ``sequential``, rows of tables read whole.
    """

    statements: int = 0
    answered: int = 0
    rows: int = 0
    buffers: int = 0
    planning_ms: float = 0.0
    execution_ms: float = 0.0
    indexes: Counter[str] = field(default_factory=Counter)
    sequential: Counter[str] = field(default_factory=Counter)
    text: str = ""

    def facts(self) -> dict[str, object]:
        """For the report."""
        return {
            "statements": self.statements,
            "rows_answered": self.answered,
            "rows_read": self.rows,
            "buffers": self.buffers,
            "planning_ms": round(self.planning_ms, 2),
            "execution_ms": round(self.execution_ms, 2),
            "indexes": dict(self.indexes),
            "sequential": dict(self.sequential),
            "plans": self.text,
        }


class Explaining:
    """Asks questions and explains them. ``explaining`` makes one."""

    def __init__(self, parts: Clients, session: aiohttp.ClientSession, url: str) -> None:
        self._parts = parts
        self._session = session
        self._url = url
        self._tables: dict[str, str] = {}

    async def read(self, asked: Request) -> Reading:
        """What answering a request reads. Raises Void when the answer is no 200."""
        Noting.noted.clear()
        body = await answer_of(self._session, self._url, asked)
        statements = list(Noting.noted)
        found = Reading(answered=entries(orjson.loads(body)), statements=len(statements))
        async with self._parts.reader.snapshot() as connection:
            if not self._tables:
                rows = await connection.fetch(_NAMES)
                self._tables = {row["chunk_name"]: row["hypertable_name"] for row in rows}
            for statement in statements:
                text = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement.text}"
                (explained,) = orjson.loads(await connection.fetchval(text, *statement.arguments))
                self._add(found, explained)
                text = f"EXPLAIN (ANALYZE, BUFFERS) {statement.text}"
                rows = await connection.fetch(text, *statement.arguments)
                found.text += statement.text.strip() + "\n\n" + "\n".join(row[0] for row in rows) + "\n\n"
        return found

    def _add(self, found: Reading, explained: dict[str, Any]) -> None:
        found.planning_ms += explained["Planning Time"]
        found.execution_ms += explained["Execution Time"]
        plan = explained["Plan"]
        found.buffers += plan.get("Shared Hit Blocks", 0) + plan.get("Shared Read Blocks", 0)
        for node in nodes(plan):
            loops = node["Actual Loops"]
            if not loops or not _scans(node):
                continue
            read = round(rows_of(node) * loops)
            if index := node.get("Index Name"):
                found.indexes[self._index(index)] += 1
            if node["Node Type"] == "Bitmap Index Scan":
                continue
            found.rows += read
            table = self._table(node["Relation Name"])
            few = _FEW_ROWS_OF_A_CHUNK if table in _GROWING else _FEW_ROWS
            if node["Node Type"] == "Seq Scan" and read > few:
                found.sequential[table] += read

    def _table(self, name: str) -> str:
        table = self._tables.get(name, name)
        return self._tables.get(table, table)

    def _index(self, name: str) -> str:
        return re.sub(r"^_hyper_\d+_\d+_chunk_", "", name)


# Tables that grow with events and reports.
_GROWING = frozenset(
    {
        "events",
        "event_counts_minute",
        "event_counts_hour",
        "event_counts_day",
        "device_counts_day",
        "node_reports",
    }
)


@asynccontextmanager
async def explaining(settings: ApiSettings) -> AsyncIterator[Explaining]:
    """The API in this process, on connections that note."""
    async with clients(settings) as parts:
        for pool in (parts.primary, parts.reader._pool):
            # Neither has connected yet.
            setattr(pool, "_connection_class", Noting)  # noqa: B010 - the types do not have it
        app = build_app(settings, parts, CollectorRegistry())
        async with listening(app, Listening("127.0.0.1", 0, 5, 5)) as port, new_session() as session:
            yield Explaining(parts, session, f"http://127.0.0.1:{port}")


def new_session() -> aiohttp.ClientSession:
    """A client without a bound on connections, and with one on waiting."""
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=_ANSWER_SECONDS), connector=aiohttp.TCPConnector(limit=0)
    )


async def answer_of(session: aiohttp.ClientSession, url: str, asked: Request) -> bytes:
    """The body of a 200. Raises Void."""
    async with session.request(
        asked.method,
        URL(url + asked.path, encoded=True),
        data=asked.body or None,
        headers={"Content-Type": "application/json", **asked.headers},
    ) as answer:
        body = await answer.read()
    # A journal of a name that was never sent is a 404.
    if answer.status not in (200, 404):
        raise Void(f"{asked.method} {asked.path}: {answer.status}, {body[:300]!r}")
    return body


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A plan's nodes from the top."""
    yield plan
    for part in plan.get("Plans", ()):
        yield from nodes(part)


def _scans(node: dict[str, Any]) -> bool:
    if node.get("Custom Plan Provider") == "ChunkAppend":
        # Its parts are scans, it is none.
        return False
    return "Relation Name" in node or "Index Name" in node


def rows_of(node: dict[str, Any]) -> float:
    """Rows that a scan gave back or threw away, for each time that it ran."""
    removed = ("Rows Removed by Filter", "Rows Removed by Index Recheck")
    return float(node["Actual Rows"] + sum(node.get(name, 0) for name in removed))


def entries(answer: Any) -> int:
    """How many things an answer lists."""
    if isinstance(answer, Sequence):
        return sum(len(one["data"]) if isinstance(one, dict) and "tag" in one else 1 for one in answer)
    for name in ("data", "nodeStats", "devices"):
        if isinstance(answer, dict) and isinstance(answer.get(name), list):
            return entries(answer[name])
    return 0 if "responseStatus" in answer else 1
