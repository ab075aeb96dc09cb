"""docs/limits.md is true: its values are the code's, each row has its test, the limits hold to the unit."""

from __future__ import annotations

import ast
import gzip
import importlib
import json
import re
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import zstandard

from api.app import _BODIES
from api.http import connections
from api.http.bodies import Allowance, parse_json
from api.http.encodings import decompressor_of
from api.surfaces.bucket_events import EventsQuestion
from api.surfaces.buckets.bodies import object_text
from api.surfaces.device_data import checked_question
from api.surfaces.devices import JournalQuestion
from api.surfaces.parameters import asked
from api.tenancy.attempts import Attempts
from api.tenancy.passwords import hash_password
from deploy import reference
from ingest.gateway.admission import Terms, admit_events
from ingest.gateway.dialects.cloud_events import CLOUD_EVENTS, CloudEvents
from ingest.gateway.dialects.events import EVENTS
from ingest.gateway.dialects.nodes import NODE_REPORTS
from ingest.gateway.dialects.reading import JSON
from ingest.gateway.idempotency import checked_key
from ingest.gateway.quota import Quota
from ingest.writer.batch import DeadLetter, FetchedRecord, decode
from ingest.writer.dead_letters import DeadLetterFlood, DeadLetterTopic
from ingest.writer.poison import gathered
from query.filters.rules import parse_rules
from query.filters.tags import parse_tag
from query.filters.trees import parse_filters
from query.interval import SECOND, Interval, Unit
from query.request import Range, check_points, checked_label
from schema.errors import Invalid, Overloaded
from schema.records import EVENTS as EVENT_KIND
from schema.records import Segment, encode_event, encode_labels, encode_record
from schema.settings import ApiSettings, EventLimits, GatewaySettings, WriterSettings
from tests.support.bounds import AT_AND_ABOVE

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/limits.md").read_text(encoding="utf-8")
ROW = re.compile(
    r"^\| ([^|]+) \| `([^`]+)` \| ([^|]+) \| ([^|]+) \| (`[^`|]+`(?:, `[^`|]+`)*) \|$", re.MULTILINE
)
NAMED = re.compile(r"`([^`:]+)::(\w+)(?:\[([^\]]+)\])?`")
ROWS = ROW.findall(PAGE)
THIS = "tests/unit/test_limits.py"
LIMITS = EventLimits()
NOW = 1_790_000_000_000_000
TERMS = Terms(NOW, NOW + LIMITS.max_future_seconds * 1_000_000, 0, 0, LIMITS.max_nesting)


def setting(name: str) -> Any:
    """The default of a setting, of whichever process has it."""
    for group in reference._PROCESSES.values():
        field = group.model_fields.get(name.removeprefix("WEIR_").lower())
        if field is not None:
            return field.default
    raise AssertionError(f"no process has the setting {name}")


def test_the_page_has_a_row_for_each_line_of_its_tables() -> None:
    lines = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| limit")]
    assert len(ROWS) == len(lines) > 40


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_row_is_true_and_has_its_test(row: tuple[str, str, str, str, str]) -> None:
    _, where, value, _, test = row
    if where.startswith("WEIR_"):
        found = setting(where)
    else:
        module, _, name = where.rpartition(".")
        found = getattr(importlib.import_module(module), name)
    assert str(found) == value
    named = NAMED.findall(test)
    assert len(named) == test.count("`") // 2, "a test is named by file and function"
    for path, function, case in named:
        assert tries_both_sides(path, function), f"{function}: one side only"
        assert (case in TRIED) == (path == THIS and function == test_at_the_limit_and_one_beyond.__name__)
        if case:
            assert str(TRIED[case][0]) == value or case in OTHERWISE_COUNTED


@cache
def functions_of(path: str) -> dict[str, ast.AST]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def tries_both_sides(path: str, function: str) -> bool:
    """Whether a test runs at the limit and above it, and what it expects depends on which."""
    node = functions_of(path).get(function)
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return False
    marked = any(isinstance(one, ast.Name) and one.id == "AT_AND_ABOVE" for one in node.decorator_list)
    choices = [one.test for one in ast.walk(node) if isinstance(one, ast.If | ast.IfExp)]
    return marked and any(
        isinstance(name, ast.Name) and name.id == "beyond" for choice in choices for name in ast.walk(choice)
    )


def test_each_case_has_its_row() -> None:
    # What a double holds is no limit of ours.
    assert {case for row in ROWS for _, _, case in NAMED.findall(row[4])} == set(TRIED) - {
        "powers of ten"
    } | {""}


def test_no_setting_that_is_a_limit_is_missing() -> None:
    named = {where for _, where, *_ in ROWS}
    settings = {
        f"WEIR_{name.upper()}" for group in reference._PROCESSES.values() for name in group.model_fields
    }
    limits = re.compile(r"WEIR_MAX_\w+|WEIR_\w+_PER_(SECOND|MINUTE)|WEIR_LIVE_\w+(?<!_SECONDS)")
    assert {name for name in settings if limits.fullmatch(name)} <= named


def event(**fields: Any) -> None:
    """One event through the gateway. Raises Invalid where it is refused."""
    batch = EVENTS.read(json.dumps({"name": "a", **fields}).encode(), JSON, LIMITS)
    refused(admit_events(batch, TERMS, bytes(12), 4).rejections)


def report(**fields: Any) -> None:
    refused(NODE_REPORTS.read(json.dumps({"host": "a", **fields}).encode(), JSON, LIMITS).rejections)


def refused(rejections: list[Any]) -> None:
    if rejections:
        raise Invalid(rejections[0].error)


def data(text: bytes) -> None:
    batch = EVENTS.read(b'{"name":"a","data":{"x":%b}}' % text, JSON, LIMITS)
    refused(admit_events(batch, TERMS, bytes(12), 4).rejections)


def sized(count: int) -> None:
    text = b'{"name":"a","data":"%b"}'
    refused(EVENTS.read(text % (b"x" * (count - len(text) + 2)), JSON, LIMITS).rejections)


def unpacked(encoding: str, packed: bytes) -> None:
    decompressor = decompressor_of(encoding)
    assert decompressor is not None
    decompressor.feed(packed, 1000)
    decompressor.finish()


def zstd_window(count: int) -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=count, write_content_size=False)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    unpacked("zstd", packer.compress(b"x") + packer.flush())


def nested_filter(count: int) -> None:
    parse_filters('{"NOT":' * count + '["a","EXISTS"]' + "}" * count, "filters")


def letters(count: int) -> None:
    """Invalid stands for being put together."""
    tail = encode_event(NOW, "a", NOW, "", b"{}")
    payload = encode_record(bytes(16), [Segment(1, 0, bytes(12), b"", [tail])])
    several = [DeadLetter(0, 0, place, "b", "data", "why", payload) for place in range(count)]
    if len(gathered(several)) != count:
        raise Invalid("together")


def times(count: int, attempt: Callable[[], object]) -> None:
    for _ in range(count):
        attempt()


def rate(count: int) -> None:
    """The first may be in debt; what comes after it is refused."""
    quota = Quota(lambda: 0.0, default_rate=GatewaySettings().bucket_events_per_second, burst_seconds=1)
    quota.take("a", count - 1, None)
    quota.take("a", 1, None)


def attempts(name: str) -> Callable[[int], None]:
    """As often in one minute as a setting allows."""

    def attempt(count: int) -> None:
        limit = Attempts(setting(name), lambda: 0.0)
        times(count, lambda: limit.take("a"))

    return attempt


def question(**fields: Any) -> None:
    asked(EventsQuestion, {"event_name": "a", **fields})


def streams(devices: int) -> None:
    checked_question({"device_id": [f"d{n}" for n in range(devices)], "stream": "events"})


def broken(count: int) -> None:
    """Invalid stands for a record that is one letter as a whole."""
    good = encode_event(NOW, "a", NOW, "", b"{}")
    labels = encode_labels("a", "events", "", "")
    segment = Segment(EVENT_KIND, 0, bytes(12), labels, [good, *[b""] * count])
    runs, dead = decode(FetchedRecord(0, 0, 0, encode_record(bytes(16), [segment])))
    assert len(dead) == count
    assert [run.tails for run in runs] == [[good]]


def flood(count: int) -> None:
    some = [DeadLetter(0, place, -1, None, "record", "why", b"") for place in range(count)]
    DeadLetterTopic(WriterSettings(), lambda: 0.0)._check_flood(some, {0: 1})


def bodies(count: int) -> None:
    allowance = Allowance(setting("WEIR_BODY_BYTES"))
    try:
        with allowance.share() as take:
            take(count - 1)
            take(1)
    finally:
        assert allowance.taken_bytes == 0


def bodies_of_questions(count: int) -> None:
    size = ApiSettings().request_bytes
    allowance = Allowance(size * _BODIES)
    with ExitStack() as held:
        for _ in range(count):
            held.enter_context(allowance.share())(size)


REFUSALS = (Invalid, Overloaded, DeadLetterFlood)


# Their N is said in another unit than the row's, or is one of several of the same limit.
def attributes(count: int) -> None:
    required = {"specversion": "1.0", "id": "1", "source": "s", "type": "t"}
    extensions = {f"x{n}": n for n in range(count - len(required))}
    body = json.dumps([{**required, **extensions}]).encode()
    refused(CloudEvents().read(body, CLOUD_EVENTS, LIMITS).rejections)


OTHERWISE_COUNTED = {"levels of data", "powers of two of a zstd window"}

# What is tried with N, and with N + 1.
TRIED: dict[str, tuple[int, Callable[[int], object]]] = {
    "events": (10_000, lambda n: EVENTS.read(b"[" + b",".join([b'{"name":"a"}'] * n) + b"]", JSON, LIMITS)),
    "bytes of an event": (262_144, sized),
    "fields": (100, attributes),
    "levels of data": (63, lambda n: data(b"[" * n + b"]" * n)),
    "seconds ahead": (86_400, lambda n: event(observed_at=NOW // 1_000_000 + n)),
    "characters of an id": (128, lambda n: event(id="ä" * n)),
    "characters of a name": (200, lambda n: event(name="ä" * n)),
    "characters of a device": (200, lambda n: event(device="\U0001f600" * n)),
    "characters of an app": (200, lambda n: event(app="x" * n)),
    "characters of a server": (200, lambda n: event(server="x" * n)),
    "characters of a stream": (100, lambda n: event(stream="ä" * n)),
    "characters of a host": (200, lambda n: report(host="ä" * n)),
    "characters of an ip": (200, lambda n: report(ip="x" * n)),
    "characters of a version": (100, lambda n: report(version="x" * n)),
    "seconds of an interval": (3600, lambda n: report(interval_seconds=n)),
    "digits after the point": (400, lambda n: data(b"0." + b"1" * n)),
    "powers of ten": (308, lambda n: data(b"1e%d" % n)),
    "characters of an Idempotency-Key": (122, lambda n: checked_key("k" * n)),
    "gzip members": (64, lambda n: unpacked("gzip", gzip.compress(b"a") * n)),
    "zstd frames": (64, lambda n: unpacked("zstd", zstandard.compress(b"a") * n)),
    "powers of two of a zstd window": (23, zstd_window),
    "levels of a body": (64, lambda n: parse_json(b"[" * n + b"]" * n)),
    "points": (
        200_000,
        lambda n: check_points(Interval(Unit.SECOND), Range(0, n * SECOND), ApiSettings().max_points),
    ),
    "characters of a filter": (16_384, lambda n: parse_filters('["a","EXISTS"]' + " " * (n - 14), "filters")),
    "characters of a rule": (16_384, lambda n: parse_rules(["a" + " " * (n - 1)], "rule")),
    "groups inside one another": (16, nested_filter),
    "leaves": (100, lambda n: parse_filters({"AND": [["a", "EXISTS"]] * n}, "filters")),
    "rules": (100, lambda n: parse_rules(["a"] * n, "rule")),
    "values": (100, lambda n: parse_filters(["a", "IN", [1] * n], "filters")),
    "characters of a value": (1000, lambda n: parse_filters(["a", "EQUALS", "x" * n], "filters")),
    "characters of a number": (60, lambda n: parse_filters('["a","EQUALS",' + "1" * n + "]", "filters")),
    "characters of a tag": (250, lambda n: parse_tag("x" * n, "sort_by")),
    "names of a tag": (16, lambda n: parse_tag(".".join(["x"] * n), "sort_by")),
    "characters of a label": (200, lambda n: checked_label("ä" * n, "app_name")),
    "letters": (1000, letters),
    "bytes of bodies": (67_108_864, bodies),
    "events a second": (100_000, rate),
    "events of an answer": (10_000, lambda n: question(limit=n)),
    "devices of a request": (100, streams),
    "bodies of questions": (16, bodies_of_questions),
    "events skipped": (1_000_000_000, lambda n: question(offset=n)),
    "pages": (1_000_000_000, lambda n: asked(JournalQuestion, {"page": n})),
    "attempts": (10, attempts("WEIR_SIGN_INS_PER_MINUTE")),
    "attempts from an address": (60, attempts("WEIR_ADDRESS_SIGN_INS_PER_MINUTE")),
    "tokens": (120, attempts("WEIR_TOKENS_PER_MINUTE")),
    "tokens from an address": (1200, attempts("WEIR_ADDRESS_TOKENS_PER_MINUTE")),
    "invitations": (30, attempts("WEIR_INVITATIONS_PER_MINUTE")),
    "keys": (30, attempts("WEIR_KEYS_PER_MINUTE")),
    "bytes of a configuration": (65_536, lambda n: object_text({"x": "y" * (n - 8)}, "configuration")),
    "characters of a password": (1024, lambda n: hash_password("x" * n)),
    "broken events": (1000, broken),
    "letters a minute": (10_000, flood),
}


@AT_AND_ABOVE
@pytest.mark.parametrize("limit", TRIED)
def test_at_the_limit_and_one_beyond(limit: str, beyond: int) -> None:
    most, attempt = TRIED[limit]
    with pytest.raises(REFUSALS) if beyond else nullcontext():
        attempt(most + beyond)


def test_a_door_has_the_headers_bytes_of_the_page() -> None:
    assert connections.ConnectionLimits(1, 1, 1).header_bytes == connections.HEADER_BYTES
