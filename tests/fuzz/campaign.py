"""One target under atheris, in a process of its own: `python -m tests.fuzz.campaign <target> <options>`.

The options are libFuzzer's. Importing this module starts nothing: only `main` needs atheris, which
requirements-fuzz.txt pins.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Feed the target until libFuzzer ends the process: with 0 when its time is over, else with a finding."""
    import atheris

    name, *options = sys.argv[1:]
    with atheris.instrument_imports(include=["ingest", "schema", "query", "api"]):
        from tests.fuzz.targets import TARGETS
    atheris.Setup([sys.argv[0], *options], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
