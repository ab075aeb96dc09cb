"""The chaos campaign in its short form: what it injects, nothing acknowledged is lost or stored twice."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

MINUTES = 2
# A round that has begun is played to its end, and a busy machine starts servers slowly.
LIMIT_SECONDS = 280


@pytest.mark.timeout(LIMIT_SECONDS + 20)
def test_two_minutes_of_chaos(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", "--minutes", str(MINUTES), "--output", str(tmp_path)],
        env={name: value for name, value in os.environ.items() if not name.startswith("WEIR_CHAOS")},
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = orjson.loads((tmp_path / "chaos.json").read_bytes())
    everything = found["faults"][-1]
    assert everything["lost"] == everything["twice"] == everything["failures"] == 0, done.stdout
    assert everything["acknowledged"] > 300
    assert everything["injected"] >= 3
    # On a machine that is busy enough the time is over after a few rounds.
    assert len(found["faults"]) > 1, done.stdout
    lines = [orjson.loads(line) for line in (tmp_path / "requests.jsonl").read_bytes().splitlines()]
    assert sum(line.get("status") == 202 for line in lines) > 50
