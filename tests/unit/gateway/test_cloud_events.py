"""CloudEvents become events: what maps where, what is kept, what is refused, and by which name."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from ingest.gateway.dialects.cloud_events import CLOUD_EVENT, CLOUD_EVENTS, CloudEvents, read_binary
from ingest.gateway.dialects.events import Event
from schema.cloud_events import event_identifier
from schema.errors import Invalid
from schema.settings import EventLimits

LIMITS = EventLimits()
LEAST = {"specversion": "1.0", "type": "t", "source": "/s", "id": "1"}
TIME = "2026-01-31T12:00:00Z"


def one(**attributes: Any) -> Event:
    batch = CloudEvents().read(orjson.dumps({**LEAST, **attributes}), CLOUD_EVENT, LIMITS)
    assert batch.rejections == []
    return batch.entries[0]


def refusal(body: Any) -> str:
    text = body if isinstance(body, bytes) else orjson.dumps(body)
    batch = CloudEvents().read(text, CLOUD_EVENT, LIMITS)
    assert batch.entries == []
    return batch.rejections[0].error


def data_of(event: Event) -> Any:
    return orjson.loads(bytes(event.data))


def binary(body: bytes = b"", **headers: str) -> Event:
    given = {"ce-specversion": "1.0", "ce-type": "t", "ce-source": "/s", "ce-id": "1"}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    batch = read_binary(CIMultiDictProxy(CIMultiDict({**given, **named})), body, LIMITS)
    assert batch.rejections == []
    return batch.entries[0]


def test_attributes_become_fields() -> None:
    event = one(subject="d1", time=TIME, data={"x": 1.10}, datacontenttype="application/json")
    assert (event.name, event.app, event.device, event.observed_at) == ("t", "/s", "d1", TIME)
    assert (event.id, event.stream, event.server) == ("/s 1", "events", "")
    assert data_of(event) == {"x": 1.1}
    least = one()
    assert (least.device, least.observed_at, bytes(least.data)) == ("", None, b"{}")
    assert one(subject=None, time=None, dataschema=None).id == "/s 1"


def test_a_number_stays_as_it_was_written() -> None:
    body = b'{"specversion":"1.0","type":"t","source":"s","id":"1","data":{"x":12345678901234567890.10}}'
    assert bytes(CloudEvents().read(body, CLOUD_EVENT, LIMITS).entries[0].data) == (
        b'{"x":12345678901234567890.10}'
    )


@pytest.mark.parametrize(
    ("attributes", "stored"),
    [
        ({"data": {"x": 1}, "traceparent": "00-ab"}, {"x": 1, "cloudevents": {"traceparent": "00-ab"}}),
        ({"traceparent": "a", "n": 5, "b": True}, {"cloudevents": {"traceparent": "a", "n": 5, "b": True}}),
        ({"data": 5, "dataschema": "u:1"}, {"value": 5, "cloudevents": {"dataschema": "u:1"}}),
        ({"data": {}, "dataschema": "u:1"}, {"cloudevents": {"dataschema": "u:1"}}),
        (
            {"data": "<a/>", "datacontenttype": "application/xml"},
            {"value": "<a/>", "cloudevents": {"datacontenttype": "application/xml"}},
        ),
        ({"data": {"x": 1}, "datacontenttype": "application/vnd.a+json; charset=utf-8"}, {"x": 1}),
        ({"data_base64": "AAEC"}, {"data_base64": "AAEC"}),
        (
            {"data_base64": "AAEC", "datacontenttype": "image/png"},
            {"data_base64": "AAEC", "cloudevents": {"datacontenttype": "image/png"}},
        ),
    ],
)
def test_what_has_no_field_is_kept_in_data(attributes: dict[str, Any], stored: Any) -> None:
    assert data_of(one(**attributes)) == stored


@pytest.mark.parametrize(
    ("attributes", "named"),
    [
        ({"specversion": "0.3"}, "specversion"),
        ({"type": ""}, "type"),
        ({"type": None}, "type"),
        ({"type": "x" * 201}, "type"),
        ({"type": 5}, "type"),
        ({"source": "x" * 201}, "source"),
        ({"id": ""}, "id"),
        ({"id": 1}, "id"),
        ({"id": "a\0"}, "id"),
        ({"subject": ""}, "subject"),
        ({"subject": "x" * 201}, "subject"),
        ({"time": "yesterday"}, "time"),
        ({"time": "2026-01-31T12:00:00"}, "time"),
        ({"time": 5}, "time"),
        ({"data_base64": "!"}, "data_base64"),
        ({"data_base64": "AAEC", "data": 1}, "data_base64"),
        ({"Extension": "x"}, "Extension"),
        ({"my_extension": "x"}, "my_extension"),
        ({"ext": {"x": 1}}, "ext"),
        ({"ext": 1.5}, "ext"),
        ({"ext": 2**31}, "ext"),
        ({"ext": "\0"}, "ext"),
        ({"ext": "x", "data": {"cloudevents": 1}}, "data"),
    ],
)
def test_what_is_wrong_is_refused_by_its_name(attributes: dict[str, Any], named: str) -> None:
    assert refusal({**LEAST, **attributes}).split(":")[0] == named


def test_a_batch_keeps_its_good_ones() -> None:
    good = orjson.dumps(LEAST)
    body = b"[%b, 5, {}, %b, %b]" % (good, good.replace(b'"1"', b"NaN"), good.replace(b'"1"', b'"2"'))
    batch = CloudEvents().read(body, CLOUD_EVENTS, LIMITS)
    assert [event.id for event in batch.entries] == ["/s 1", "/s 2"]
    assert batch.indexes == [0, 4]
    assert [rejection.index for rejection in batch.rejections] == [1, 2, 3]
    assert CloudEvents().read(b"[]", CLOUD_EVENTS, LIMITS).entries == []
    for bad in (good, b"", b"[", b"\xff", b"[%b" % good):
        with pytest.raises(Invalid):
            CloudEvents().read(bad, CLOUD_EVENTS, LIMITS)
    with pytest.raises(Invalid, match="over the 2"):
        CloudEvents().read(b"[%b,%b,%b]" % (good, good, good), CLOUD_EVENTS, EventLimits(max_events=2))


@pytest.mark.parametrize("body", [b"", b"[]", b"5", b"{", b"\xff", b"[" * 5000])
def test_what_is_no_event_is_refused(body: bytes) -> None:
    refusal(body)


def test_an_event_in_headers() -> None:
    event = binary(b'{"x": 1}', ce_subject="d1", ce_time=TIME, Content_Type="application/json")
    assert (event.name, event.app, event.device, event.observed_at) == ("t", "/s", "d1", TIME)
    assert bytes(event.data) == b'{"x": 1}'
    assert bytes(binary().data) == b"{}"
    assert data_of(binary(b"[1]", ce_ext="5")) == {"value": [1], "cloudevents": {"ext": "5"}}
    assert data_of(binary("grün".encode(), Content_Type="text/plain")) == {
        "value": "grün",
        "cloudevents": {"datacontenttype": "text/plain"},
    }
    assert data_of(binary(b"\0\xff", Content_Type="image/png")) == {
        "data_base64": base64.b64encode(b"\0\xff").decode(),
        "cloudevents": {"datacontenttype": "image/png"},
    }


def test_headers_are_decoded() -> None:
    assert binary(ce_subject="Z%C3%BCrich %22x%22").device == 'Zürich "x"'
    assert binary(ce_subject=r'"a \"b\""').device == 'a "b"'


@pytest.mark.parametrize(
    ("headers", "body", "named"),
    [
        ({"ce_subject": "%FF"}, b"", "ce-subject"),
        ({"ce_subject": "\udcff"}, b"", "ce-subject"),
        ({"ce_data": "x"}, b"", "ce-data"),
        ({"ce_datacontenttype": "x"}, b"", "ce-datacontenttype"),
        ({"ce_my-ext": "x"}, b"", "my-ext"),
        ({"ce_type": ""}, b"", "type"),
        ({"ce_specversion": "2.0"}, b"", "specversion"),
        ({"Content_Type": "application/json"}, b"{", "data"),
        ({"Content_Type": "text/plain"}, b"\xff", "data"),
    ],
)
def test_headers_that_are_wrong_are_refused_by_name(headers: dict[str, str], body: bytes, named: str) -> None:
    with pytest.raises(Invalid) as refused:
        binary(body, **headers)
    assert refused.value.message.split(":")[0] == named


def test_an_attribute_comes_once() -> None:
    headers = CIMultiDict({"ce-specversion": "1.0", "ce-type": "t", "ce-source": "/s", "ce-id": "1"})
    headers.add("CE-ID", "2")
    with pytest.raises(Invalid, match="once"):
        read_binary(CIMultiDictProxy(headers), b"", LIMITS)


def test_a_large_payload_is_too_large() -> None:
    headers = {"ce-specversion": "1.0", "ce-type": "t", "ce-source": "/s", "ce-id": "1"}
    body = b'"' + b"x" * LIMITS.max_event_bytes + b'"'
    batch = read_binary(CIMultiDictProxy(CIMultiDict(headers)), body, LIMITS)
    assert [rejection.too_large for rejection in batch.rejections] == [True]


texts = st.text(alphabet="a b:", min_size=1, max_size=80)


@given(st.tuples(texts, texts), st.tuples(texts, texts))
def test_no_two_events_share_an_id(left: tuple[str, str], right: tuple[str, str]) -> None:
    assert (event_identifier(*left) == event_identifier(*right)) == (left == right)
    assert len(event_identifier(*left)) <= 128


attributes = st.dictionaries(
    st.sampled_from([*LEAST, "subject", "time", "dataschema", "datacontenttype", "data_base64", "ext", "X"]),
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=300)),
)


@given(attributes, st.recursive(st.none() | st.text(), st.lists, max_leaves=3))
def test_whatever_is_taken_is_an_event_by_the_contract(given_attributes: dict[str, Any], data: Any) -> None:
    try:
        body = orjson.dumps({**LEAST, **given_attributes, "data": data})
    except TypeError:
        return
    for event in CloudEvents().read(body, CLOUD_EVENT, LIMITS).entries:
        fields = {name: getattr(event, name) for name in Event.__struct_fields__ if name != "data"}
        assert msgspec.convert(fields, Event).name == event.name
        orjson.loads(bytes(event.data))
