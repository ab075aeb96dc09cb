"""Both doors do what they describe, whatever they are called with; and their examples work."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conformance.examples import sent_examples
from tests.conformance.runs import Run, carried_out, let_be, with_credentials
from tests.conformance.scene import scene
from tests.support.topics import TopicNames

# Of one run, on a machine that has other things to do.
_SECONDS = 200


@pytest.mark.timeout(300)
def test_both_doors_are_as_they_describe_themselves(
    kafka_bootstrap: str, database_dsn: str, topics: TopicNames, tmp_path: Path
) -> None:
    """A part of `make conformance`, with one seed; the longest of it is schemathesis making up its cases."""
    with scene(kafka_bootstrap, database_dsn, topics, tmp_path) as there:
        examples = [sent for door in (there.gateway, there.api) for sent in sent_examples(door, there)]
        assert len(examples) >= 20
        assert [one for one in examples if not 200 <= one.status < 300] == []
        credentials = with_credentials(there)
        runs = [
            Run(url, examples, _SECONDS, seed=1, phases="fuzzing", configuration=configuration)
            for url, examples, configuration in (
                (there.api.url, 3, credentials),
                (there.gateway.url, 12, credentials),
                (there.gateway.url, 2, let_be()),
            )
        ]
        folders = [tmp_path / f"run-{number}" for number in range(len(runs))]
        with ThreadPoolExecutor(2) as pool:
            outcomes = list(pool.map(carried_out, runs, folders))
        for outcome in outcomes:
            assert outcome.exit_code == 0, outcome.text
            assert outcome.cases > 0, outcome.text
        assert "unexpected error" not in there.api.log() + there.gateway.log()
