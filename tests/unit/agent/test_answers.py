"""What each answer means: only one that accounts for every event ends a batch."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.agent.answers import Action, judged

NOW = 1_800_000_000.0
PROBLEM = {"Content-Type": "application/problem+json"}
ENDING = {Action.DONE, Action.WITHOUT_REFUSED, Action.SPLIT}


def verdict_on(status: int, body: object, events: int = 3, **headers: str) -> Any:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    return judged(
        status, {name.replace("_", "-"): value for name, value in headers.items()}, raw, events, NOW
    )


def test_202_that_accounts_for_all_is_done_with_its_receipt() -> None:
    verdict = verdict_on(202, {"accepted": 3, "rejected": [], "receipt": "abc"})
    assert (verdict.action, verdict.receipt, verdict.refused) == (Action.DONE, "abc", ())


def test_202_names_what_was_refused_and_why() -> None:
    verdict = verdict_on(
        202, {"accepted": 2, "rejected": [{"index": 1, "error": "too old"}], "receipt": "abc"}
    )
    assert (verdict.action, verdict.refused) == (Action.DONE, ((1, "too old"),))


@pytest.mark.parametrize(
    "body",
    [
        b"<html>Welcome to the hotel's network</html>",
        [],
        {},
        {"accepted": 2, "rejected": []},
        {"accepted": "3", "rejected": []},
        {"accepted": True},
        {"accepted": 2, "rejected": [{"index": 7, "error": "no such event"}]},
        {"accepted": 1, "rejected": [{"index": 0}, {"index": 0}]},
    ],
)
def test_202_that_does_not_add_up_acknowledges_nothing(body: object) -> None:
    assert verdict_on(202, body).action is Action.REPEAT_SLOWLY


def test_400_with_a_list_drops_those_alone() -> None:
    body = {"accepted": 0, "rejected": [{"index": 0, "error": "a"}, {"index": 2, "error": "b"}]}
    verdict = verdict_on(400, body)
    assert (verdict.action, verdict.refused) == (Action.WITHOUT_REFUSED, ((0, "a"), (2, "b")))


def test_413_with_a_list_drops_those_alone() -> None:
    verdict = verdict_on(413, {"accepted": 0, "rejected": [{"index": 1, "error": "too large"}]})
    assert (verdict.action, verdict.outcome) == (Action.WITHOUT_REFUSED, "too_large")
    assert verdict.refused == ((1, "too large"),)


def test_400_of_ours_without_a_list_is_searched_for_its_culprit() -> None:
    verdict = judged(400, PROBLEM, b'{"detail": "line 2: no JSON"}', 3, NOW)
    assert verdict.action is Action.SPLIT
    assert "line 2: no JSON" in verdict.reason


def test_400_of_somebody_else_costs_nothing() -> None:
    html = {"Content-Type": "text/html"}
    assert judged(400, html, b"<html>plain HTTP sent to HTTPS port", 3, NOW).action is Action.REPEAT_SLOWLY
    assert judged(400, {}, b'{"message": "Bad Request"}', 3, NOW).action is Action.REPEAT_SLOWLY


@pytest.mark.parametrize(
    ("status", "action", "outcome"),
    [
        (413, Action.SPLIT, "too_large"),
        (401, Action.REPEAT_SLOWLY, "denied"),
        (403, Action.REPEAT_SLOWLY, "denied"),
        (408, Action.REPEAT, "unavailable"),
        (429, Action.REPEAT, "limited"),
        (500, Action.REPEAT, "unavailable"),
        (502, Action.REPEAT, "unavailable"),
        (503, Action.REPEAT, "unavailable"),
        (200, Action.REPEAT_SLOWLY, "unexpected"),
        (204, Action.REPEAT_SLOWLY, "unexpected"),
        (301, Action.REPEAT_SLOWLY, "unexpected"),
        (404, Action.REPEAT_SLOWLY, "unexpected"),
        (405, Action.REPEAT_SLOWLY, "unexpected"),
        (415, Action.REPEAT_SLOWLY, "unexpected"),
    ],
)
def test_every_other_status(status: int, action: Action, outcome: str) -> None:
    verdict = verdict_on(status, {"title": "made up"})
    assert (verdict.action, verdict.outcome) == (action, outcome)
    assert "made up" in verdict.reason


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("0.25", 0.25),
        ("Fri, 15 Jan 2027 08:00:30 GMT", 30.0),
        ("Fri, 15 Jan 2027 07:00:00 GMT", None),
        ("-3", None),
        ("inf", None),
        ("nan", None),
        ("soon", None),
        (f"Fri, 15 Jan {'9' * 30} 08:00:30 GMT", None),
        ("", None),
    ],
)
def test_retry_after_in_both_its_forms(value: str, seconds: float | None) -> None:
    assert verdict_on(503, {}, Retry_After=value).retry_after_seconds == seconds


@given(
    st.integers(100, 599),
    st.binary(max_size=80) | st.builds(orjson.dumps, st.dictionaries(st.text(max_size=8), st.integers(0, 9))),
)
def test_nothing_but_202_400_and_413_ever_ends_a_batch(status: int, body: bytes) -> None:
    verdict = judged(status, PROBLEM, body, 3, NOW)
    assert status in (202, 400, 413) or verdict.action not in ENDING
