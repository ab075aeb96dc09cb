"""`python -m tests.conformance --seeds 1,2,3`: both doors, with a credential and without, for each seed.

What breaks a check is printed as schemathesis tells it; the exit code is then 1.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from schema.migrations.migrate import upgrade
from tests.conformance.runs import Outcome, Run, carried_out, let_be, with_credentials
from tests.conformance.scene import scene
from tests.support import databases, servers
from tests.support.topics import TopicNames, unique_prefix


def main() -> int:
    """Run all; 1 where anything was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--seeds", default="1")
    parser.add_argument("--examples", type=int, default=60, help="cases of each call, in the last phase")
    parser.add_argument("--only", default="", help="a part of a run's name, such as gateway")
    options = parser.parse_args()
    found = 0
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        servers.kafka_for_tests() as kafka,
        servers.database_server_for_tests() as server,
        databases.new_database(server, "conformance") as name,
    ):
        dsn = databases.dsn_of(server, name)
        upgrade(dsn)
        with scene(kafka, dsn, TopicNames(unique_prefix()), Path(folder)) as there:
            credentials = with_credentials(there)
            for seed in map(int, options.seeds.split(",")):
                for door, url in (("api", there.api.url), ("gateway", there.gateway.url)):
                    for who, configuration in (("caller", credentials), ("nobody", let_be())):
                        if options.only not in f"{door} {who}":
                            continue
                        run = Run(url, options.examples, 3600, seed, configuration=configuration)
                        begun_at = time.monotonic()
                        outcome = carried_out(run, Path(folder) / f"{door}-{who}-{seed}")
                        _tell(f"{door} {who}, seed {seed}", outcome, time.monotonic() - begun_at)
                        found += outcome.exit_code != 0
            for process in (there.api, there.gateway):
                print(f"{process.role}: {process.log().count('unexpected error')} unexpected errors logged")
                print(
                    "\n".join([line for line in process.log().splitlines() if "unexpected error" in line][:5])
                )
    return 1 if found else 0


def _tell(what: str, outcome: Outcome, seconds: float) -> None:
    print(f"{what}: exit code {outcome.exit_code}, {outcome.cases} cases, {seconds:.0f} s")
    if outcome.exit_code:
        print(outcome.text)


if __name__ == "__main__":
    raise SystemExit(main())
