"""Orders for the generator's process, and what came of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic_ns

from tests.bench.generator import Order, Result, decoded_result, encoded
from tests.bench.processes import Running, started
from tests.bench.recount import Void


@contextmanager
def sending(order: Order, folder: Path) -> Iterator[tuple[Running, Path]]:
    """A generator at work; its result will be in the file."""
    stem = folder / f"load-{monotonic_ns()}"
    order_file, result_file = stem.with_suffix(".order"), stem.with_suffix(".result")
    order_file.write_bytes(encoded(order))
    arguments = ["-m", "tests.bench.generator", str(order_file), str(result_file)]
    with started("generator", arguments, folder, {}) as running:
        yield running, result_file


async def sent(order: Order, folder: Path, timeout_seconds: float) -> Result:
    """Carry out an order to its end. Raises Void when a request was given up."""
    with sending(order, folder) as (running, result_file):
        await asyncio.to_thread(running.finished, timeout_seconds)
        return result_of(result_file)


def result_of(result_file: Path) -> Result:
    """What a generator that has ended wrote. Raises Void when a request was given up."""
    result = decoded_result(result_file.read_bytes())
    if result.given_up:
        raise Void(f"{result.given_up} requests were never accepted; statuses {result.statuses}")
    return result
