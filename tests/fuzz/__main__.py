"""`python -m tests.fuzz --minutes 30`: every target for its share of the time, then a table.

What breaks a property, takes longer than a few seconds or more than a gigabyte is kept in
`tests/fuzz/corpus/<target>/`; the exit code is then 1. Runs with the same seed begin alike.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.seeds import seeds, words
from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
INPUT_SECONDS = 5
MEMORY_MB = 1024
LONGEST_BYTES = 4096
_COUNT = re.compile(r"stat::number_of_executed_units:\s*(\d+)")
_COVERED = re.compile(r"cov: (\d+)")


@dataclass(frozen=True, slots=True)
class Result:
    """One target's campaign. ``findings``: files in its folder of the corpus."""

    target: str
    inputs: int
    covered: int
    exit_code: int
    findings: list[str]


def main() -> int:
    """Run the campaign; 1 where anything was found."""
    options = _options()
    chosen: list[str] = options.targets.split(",") if options.targets else list(TARGETS)
    seconds = max(1, int(60 * options.minutes / len(chosen)))
    results = [_campaign(name, seconds, options.seed) for name in chosen]
    print(f"{'target':<12}{'inputs':>12}{'covered':>10}{'findings':>10}")
    for one in results:
        print(f"{one.target:<12}{one.inputs:>12}{one.covered:>10}{len(one.findings):>10}")
        for finding in one.findings:
            print(f"  {finding}")
    return 1 if any(one.findings or one.exit_code for one in results) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="of all targets together")
    parser.add_argument("--targets", default="", help=f"comma-separated, of: {', '.join(TARGETS)}")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def _campaign(name: str, seconds: int, seed: int) -> Result:
    found = CORPUS / name
    found.mkdir(parents=True, exist_ok=True)
    before = set(found.iterdir())
    with tempfile.TemporaryDirectory(prefix="weir-fuzz-") as folder:
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        for number, seed_input in enumerate([*seeds(name), *(path.read_bytes() for path in before)]):
            (corpus / f"seed-{number}").write_bytes(seed_input)
        dictionary = Path(folder) / "words"
        dictionary.write_text("\n".join(words(name)))
        command = [
            sys.executable, "-m", "tests.fuzz.campaign", name, str(corpus),
            f"-max_total_time={seconds}", f"-timeout={INPUT_SECONDS}", f"-rss_limit_mb={MEMORY_MB}",
            f"-max_len={LONGEST_BYTES}", f"-seed={seed}", f"-dict={dictionary}", "-print_final_stats=1",
            f"-artifact_prefix={found}/",
        ]  # fmt: skip
        print(f"{name}: {seconds} s", flush=True)
        ended = subprocess.run(
            command, stderr=subprocess.PIPE, text=True, errors="replace", timeout=seconds + 120, check=False
        )
    findings = sorted(str(path.relative_to(CORPUS)) for path in set(found.iterdir()) - before)
    if ended.returncode:
        print(ended.stderr[-4000:])
    return Result(
        name,
        _last(_COUNT.findall(ended.stderr)),
        _last(_COVERED.findall(ended.stderr)),
        ended.returncode,
        findings,
    )


def _last(numbers: Iterable[str]) -> int:
    return int([*numbers, "0"][-2 if numbers else -1])


if __name__ == "__main__":
    sys.exit(main())
