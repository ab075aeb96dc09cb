"""The `weir` command.

In the order in which a person meets them: `app` (the commands and their options, nothing else), `up` (from
nothing to a running stack, in the foreground or left behind, and down again), `screens` (what is shown
meanwhile, and at the end), `status`, `logs`, `checkup` (the findings of `weir doctor`), `database` (which one
is meant, and its migration), `keys`, `tenants` (users, workspaces, buckets).
"""

import importlib
import sys

# A process that runs for months should not carry a terminal library: these four never load one.
PROCESSES = {
    "gateway": "ingest.gateway.process",
    "writer": "ingest.writer.process",
    "api": "api.process",
    "agent": "ingest.agent.process",
}


def main() -> int:
    """The command line's entry point; returns the exit code."""
    arguments = sys.argv[1:]
    if len(arguments) == 1 and arguments[0] in PROCESSES:
        return run_process(arguments[0])
    from deploy.cli.app import app
    from schema.errors import WeirError

    try:
        app(prog_name="weir")
    except WeirError as error:
        print(f"weir: {error.message}", file=sys.stderr)
        return 1
    except PermissionError as error:
        # A stack that another user brought up: its files are closed to us.
        print(f"weir: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    except ValueError as error:
        # A setting that cannot be: pydantic's error is a ValueError, imported when there is one.
        from pydantic import ValidationError

        from schema.settings import refusals

        if not isinstance(error, ValidationError):
            raise
        for refusal in refusals(error):
            print(f"weir: {refusal}", file=sys.stderr)
        return 2
    return 0


def run_process(name: str) -> int:
    """Be one of the processes until it ends; returns its exit code."""
    code: int = importlib.import_module(PROCESSES[name]).main()
    return code
