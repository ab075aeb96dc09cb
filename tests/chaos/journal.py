"""Every request with its ids and its answer: as JSON lines for people, and in memory for the oracle.

A line is written for every try. The ids of a request are its stem, `-` (`:` with an idempotency key) and the
places from 0 below ``events``; ``refused`` lists the places that had to be refused.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import orjson

from tests.chaos.content import Request

ACCEPTED = 202
NO_ANSWER = 0


@dataclass(frozen=True, slots=True)
class Try:
    """One attempt at one request; moments are of the monotonic clock, ``status`` 0: no answer."""

    door: int
    began_at: float
    ended_at: float
    status: int
    detail: str = ""

    @property
    def seconds(self) -> float:
        return self.ended_at - self.began_at


@dataclass(slots=True)
class Tally:
    """What the load of one bucket was told. Keys are event ids; ``acknowledged``: by which try;
    ``moments``: when an event was observed, where it says so.
    """

    bucket_id: str
    acknowledged: dict[str, Try] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    tries: list[Try] = field(default_factory=list)
    requests: int = 0
    repeated: int = 0
    moments: dict[str, str] = field(default_factory=dict)
    wrong_answers: list[str] = field(default_factory=list)

    @property
    def statuses(self) -> Counter[int]:
        """How often each status was answered."""
        return Counter(each.status for each in self.tries)

    def between(self, began_at: float, ended_at: float) -> list[Try]:
        """The tries that began within these moments."""
        return [each for each in self.tries if began_at <= each.began_at <= ended_at]


class Journal:
    """The file of a whole campaign."""

    def __init__(self, output: IO[bytes]) -> None:
        self._output = output
        self.round = 0

    def note(self, tally: Tally, request: Request, number: int, told: Try, answer: object) -> None:
        """A try of a request: the ``number``-th, from 1."""
        tally.requests += number == 1
        tally.tries.append(told)
        self._write(
            {
                "at": round(time.time() - (time.monotonic() - told.began_at), 4),
                "round": self.round,
                "bucket": tally.bucket_id,
                "stem": request.stem,
                "kind": request.kind,
                "events": len(request.accepted) + len(request.refused),
                "refused": sorted(request.refused),
                "try": number,
                "door": told.door,
                "status": told.status,
                "seconds": round(told.seconds, 4),
                "answer": answer,
            }
        )

    def say(self, what: str, **more: object) -> None:
        """Anything else that happened: a fault that struck, a process that ended."""
        self._write({"at": round(time.time(), 4), "round": self.round, "what": what, **more})

    def _write(self, line: dict[str, object]) -> None:
        self._output.write(orjson.dumps(line) + b"\n")


@contextmanager
def journal_in(path: Path) -> Iterator[Journal]:
    """A journal at ``path``, whole once the block ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as output:
        yield Journal(output)
