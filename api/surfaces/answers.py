"""What all answers have in common: the receipt that they wait for, and what they had to leave out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeAlias

import orjson
from aiohttp import web

from query.execute import Reader
from query.receipts import NotStoredYet, wait_until_stored
from query.request import Range, moment
from schema.metrics import ApiMetrics
from schema.receipts import decode_receipt
from schema.settings import ApiSettings

Cut: TypeAlias = Literal["names", "servers", "nodes"]
# Ranges that could not be answered are named in a header of at most this many.
_NAMED_RANGES = 20


async def await_receipt(
    headers: Mapping[str, str], reader: Reader, settings: ApiSettings, metrics: ApiMetrics
) -> None:
    """Return once what the request's X-Weir-Receipt names is stored; at once without one.

    Raises NotStoredYet, Invalid, Unavailable.
    """
    receipt = headers.get("X-Weir-Receipt")
    if not receipt:
        return
    positions = decode_receipt(receipt)
    try:
        await wait_until_stored(reader, settings.kafka_events_topic, positions, settings.receipt_seconds)
    except NotStoredYet:
        metrics.receipt_waits.labels("late").inc()
        raise
    metrics.receipt_waits.labels("stored").inc()


def json_answer(value: Any, *, left_out: Iterable[Range] = (), cut: Cut | None = None) -> web.Response:
    """200, with X-Weir-Incomplete when the answer is not all that was asked for.

    ``cut``: what there are too many of to be all in it.
    """
    reasons = [f"{moment(gone.start).isoformat()}/{moment(gone.end).isoformat()}" for gone in left_out]
    reasons[_NAMED_RANGES:] = ["more"] if len(reasons) > _NAMED_RANGES else []
    if cut is not None:
        reasons.append(cut)
    headers = {"X-Weir-Incomplete": ", ".join(reasons)} if reasons else None
    return web.Response(body=orjson.dumps(value), content_type="application/json", headers=headers)
