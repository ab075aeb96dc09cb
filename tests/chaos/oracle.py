"""What must hold after every round, asked of the database directly, past the code that is judged."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass

import psycopg

from tests.chaos.journal import Tally
from tests.support import oracle

_STANDS = "SELECT partition, next_offset FROM partition_offsets WHERE topic = %s"
_STORED = "SELECT id FROM events JOIN buckets USING (bucket_key) WHERE bucket_id = %s"
_STALE = "SELECT DISTINCT rollup, hour FROM rollup_stale_hours ORDER BY hour, rollup"
_CONNECT_SECONDS = 10
# For maintenance to work off the ledger, an hour that has just ended included.
SETTLED_SECONDS = 90.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one bucket came out of a round, in events."""

    acknowledged: int
    stored: int
    twice: int
    lost: int
    alien: int
    refused_stored: int
    examples: str = ""

    @property
    def sentence(self) -> str:
        """What is wrong, or nothing."""
        wrong = {
            "acknowledged events are lost": self.lost,
            "events are stored twice": self.twice,
            "events are stored that were refused": self.refused_stored,
            "events are stored that nobody sent": self.alien,
        }
        found = ", ".join(f"{count} {what}" for what, count in wrong.items() if count)
        return f"{found} ({self.examples})" if found else ""


def verdict(ids: list[str], tally: Tally) -> Verdict:
    """Compare the stored ids of a bucket, as often as they are stored, with what its load was told. Pure."""
    stored = Counter(ids)
    twice = {identifier for identifier, count in stored.items() if count > 1}
    acknowledged = set(tally.acknowledged)
    lost = acknowledged - stored.keys()
    refused = tally.refused & stored.keys()
    alien = stored.keys() - acknowledged - tally.unknown - tally.refused
    examples = ", ".join(min(some) for some in (lost, twice, refused, alien) if some)
    return Verdict(len(acknowledged), len(stored), len(twice), len(lost), len(alien), len(refused), examples)


def judged(dsn: str, tally: Tally) -> Verdict:
    """The verdict on what is stored now."""
    with psycopg.connect(dsn, connect_timeout=_CONNECT_SECONDS) as connection:
        rows = connection.execute(_STORED, [tally.bucket_id]).fetchall()
    return verdict([row[0] for row in rows], tally)


def wrong_rollups(dsn: str, bucket_id: str | None) -> str:
    """What is wrong with the rollups of a bucket (None: of all that are not being purged), or nothing."""
    try:
        oracle.check_rollups(dsn, bucket_id, living=True)
    except AssertionError as error:
        return str(error)
    return ""


def behind(dsn: str, topic: str, ends: dict[int, int]) -> dict[int, int]:
    """Partition → records that are not stored yet; negative where the offset is one of a longer log."""
    with psycopg.connect(dsn, connect_timeout=_CONNECT_SECONDS) as connection:
        stands: dict[int, int] = dict(connection.execute(_STANDS, [topic]).fetchall())
    return {
        partition: end - stands.get(partition, 0)
        for partition, end in ends.items()
        if end != stands.get(partition, 0)
    }


def wait_drained(dsn: str, topic: str, ends: dict[int, int], seconds: float) -> str:
    """Until the writers have stored up to ``ends`` exactly; what is left after ``seconds``, or nothing."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            left: object = behind(dsn, topic, ends)
        except psycopg.OperationalError as error:
            left = error
        if not left:
            return ""
        if time.monotonic() > deadline:
            return f"after {seconds:g} s without new events these records are not stored: {left}"
        time.sleep(0.2)


def wrong_at_the_end(dsn: str, seconds: float = SETTLED_SECONDS) -> str:
    """What is wrong with any bucket once nobody sends any more: hours that stay stale, then counts.

    No count is excused then by its hour's note in the ledger.
    """
    deadline = time.monotonic() + seconds
    with psycopg.connect(dsn, autocommit=True, connect_timeout=_CONNECT_SECONDS) as connection:
        while stale := connection.execute(_STALE).fetchall():
            if time.monotonic() > deadline:
                return (
                    f"after {seconds:g} s without new events {len(stale)} hours are still stale: {stale[:3]}"
                )
            time.sleep(0.5)
    return wrong_rollups(dsn, None)
