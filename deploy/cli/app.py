"""The commands of `weir` and their options; what each of them does is in the neighbouring modules.

Guarantee: this module imports nothing heavy, so that help and completion answer at once; a command imports
what it needs when it is called.
"""

from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Weir: events in over HTTP, stored once, counted exactly.",
)
keys = typer.Typer(no_args_is_help=True, help="API keys of a bucket: create, list, revoke.")
app.add_typer(keys, name="key")

Bucket = Annotated[str | None, typer.Option(help="Bucket id; default: the local stack's first bucket.")]


@app.command()
def up(
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Come back once it is up; it goes on.")
    ] = False,
    background: Annotated[bool, typer.Option("--background", hidden=True)] = False,
) -> None:
    """Start the whole stack and keep it running.

    Kafka, TimescaleDB, gateway, writer, query API and an agent that reports on this machine.
    """
    from deploy.cli.up import bring_up, bring_up_detached

    raise typer.Exit(bring_up_detached() if detach else bring_up(background=background))


@app.command()
def down() -> None:
    """End the running stack, within ten seconds. Its data stays."""
    from deploy.cli.up import take_down

    raise typer.Exit(take_down())


@app.command()
def status() -> None:
    """Show what runs, and what is missing.

    Exit code 0: all is ready; 1: up, but not all of it; 3: down.
    """
    from deploy.cli.status import show_status

    raise typer.Exit(show_status())


@app.command()
def logs(
    process: Annotated[str | None, typer.Argument(help="One process only, such as writer.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Lines of each log to begin with.")] = 20,
) -> None:
    """Show the logs of the stack's processes."""
    from deploy.cli.logs import show_logs

    raise typer.Exit(show_logs(process, follow=follow, lines=lines))


@app.command()
def doctor() -> None:
    """Look for what is wrong, and say what helps."""
    from deploy.cli.checkup import show_checkup

    raise typer.Exit(show_checkup())


@app.command()
def migrate() -> None:
    """Bring the database to the newest revision.

    WEIR_DATABASE_DSN says which; without it, the running local one.
    """
    from deploy.cli.database import show_migration

    raise typer.Exit(show_migration())


@app.command()
def gateway() -> None:
    """Be a gateway, in the foreground."""
    _process("gateway")


@app.command()
def writer() -> None:
    """Be a writer, in the foreground."""
    _process("writer")


@app.command()
def api() -> None:
    """Be a query API, in the foreground."""
    _process("api")


@app.command()
def agent() -> None:
    """Report on this machine, in the foreground.

    WEIR_AGENT_GATEWAY says to which gateway, WEIR_AGENT_KEY with which ingest key.
    """
    _process("agent")


@keys.command("create")
def key_create(
    scope: Annotated[str, typer.Option(help="ingest, read or admin.")] = "ingest",
    bucket: Bucket = None,
    name: Annotated[str, typer.Option(help="What it is for; shown in lists.")] = "",
) -> None:
    """Make a key and print it. It is shown this once."""
    from deploy.cli.keys import create

    raise typer.Exit(create(scope, bucket, name))


@keys.command("list")
def key_list(
    bucket: Bucket = None,
    everything: Annotated[bool, typer.Option("--all", help="Keys of all buckets, revoked ones too.")] = False,
) -> None:
    """List keys by what may be known of them."""
    from deploy.cli.keys import show

    raise typer.Exit(show(bucket, everything=everything))


@keys.command("revoke")
def key_revoke(
    key: Annotated[str, typer.Argument(help="The key's id, its prefix, or the key itself.")],
) -> None:
    """Revoke a key. Gateways refuse it within 30 seconds."""
    from deploy.cli.keys import revoke

    raise typer.Exit(revoke(key))


def _process(name: str) -> None:
    from deploy.cli import run_process

    raise typer.Exit(run_process(name))
