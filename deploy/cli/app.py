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
users = typer.Typer(no_args_is_help=True, help="Users: create, list, superuser, password.")
app.add_typer(users, name="user")
workspaces = typer.Typer(no_args_is_help=True, help="Workspaces: create, list, add-member.")
app.add_typer(workspaces, name="workspace")
buckets = typer.Typer(no_args_is_help=True, help="Buckets: create, list, delete.")
app.add_typer(buckets, name="bucket")

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
    process: Annotated[list[str] | None, typer.Argument(help="One process only, such as writer.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Lines of each log to begin with.")] = 20,
) -> None:
    """Show the logs of the stack's processes."""
    from deploy.cli.logs import show_logs

    raise typer.Exit(show_logs(" ".join(process or []), follow=follow, lines=lines))


@app.command()
def doctor() -> None:
    """Look for what is wrong, and say what helps."""
    from deploy.cli.checkup import show_checkup

    raise typer.Exit(show_checkup())


@app.command()
def migrate(
    *,
    chunk_hours: Annotated[
        int | None,
        typer.Option(help="Hours that new chunks of events span: a divisor of 24."),
    ] = None,
) -> None:
    """Bring the database to the newest revision.

    WEIR_DATABASE_DSN says which; without it, the running local one.
    """
    from deploy.cli.database import show_migration

    raise typer.Exit(show_migration(chunk_hours))


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


User = Annotated[str, typer.Argument(help="The user's id or address.")]


@users.command("create")
def user_create(
    email: Annotated[str, typer.Argument(help="The user's mail address.")],
    name: Annotated[
        str | None, typer.Option(help="Shown to others; default: the address before the @.")
    ] = None,
    superuser: Annotated[bool, typer.Option("--superuser", help="May everything, in every bucket.")] = False,
    password: Annotated[
        bool, typer.Option("--password", help="Ask for a password, or read it from standard input.")
    ] = False,
) -> None:
    """Make a user and print the id."""
    from deploy.cli.tenants import make_user

    raise typer.Exit(make_user(email, name, superuser=superuser, password=password))


@users.command("list")
def user_list() -> None:
    """List users."""
    from deploy.cli.tenants import show_users

    raise typer.Exit(show_users())


@users.command("superuser")
def user_superuser(
    user: User,
    off: Annotated[bool, typer.Option("--off", help="Make the user an ordinary one again.")] = False,
) -> None:
    """Make a user a superuser."""
    from deploy.cli.tenants import change_superuser

    raise typer.Exit(change_superuser(user, superuser=not off))


@users.command("password")
def user_password(user: User) -> None:
    """Give a user a password, asked for or read from standard input. All sessions end."""
    from deploy.cli.tenants import change_password

    raise typer.Exit(change_password(user))


@workspaces.command("create")
def workspace_create(
    name: Annotated[str, typer.Argument(help="What it is called.")],
    owner: Annotated[str | None, typer.Option(help="A user's id or address.")] = None,
) -> None:
    """Make a workspace and print its id."""
    from deploy.cli.tenants import make_workspace

    raise typer.Exit(make_workspace(name, owner))


@workspaces.command("list")
def workspace_list() -> None:
    """List workspaces."""
    from deploy.cli.tenants import show_workspaces

    raise typer.Exit(show_workspaces())


@workspaces.command("add-member")
def workspace_add_member(
    workspace: Annotated[str, typer.Argument(help="The workspace's id or name.")],
    user: User,
    role: Annotated[str, typer.Option(help="owner, admin or member.")] = "member",
) -> None:
    """Give a user a role in a workspace, in place of the one held before."""
    from deploy.cli.tenants import add_member

    raise typer.Exit(add_member(workspace, user, role))


@buckets.command("create")
def bucket_create(
    name: Annotated[str, typer.Argument(help="What it is called.")],
    owner: Annotated[str, typer.Option(help="A user's id or address.")],
    workspace: Annotated[str, typer.Option(help="A workspace's id or name.")],
    retention_days: Annotated[
        int | None, typer.Option(min=1, help="Age at which events are no longer shown; default: never.")
    ] = None,
) -> None:
    """Make a bucket and print its id."""
    from deploy.cli.tenants import make_bucket

    raise typer.Exit(make_bucket(name, owner, workspace, retention_days))


@buckets.command("list")
def bucket_list() -> None:
    """List buckets."""
    from deploy.cli.tenants import show_buckets

    raise typer.Exit(show_buckets())


@buckets.command("delete")
def bucket_delete(
    bucket: Annotated[str, typer.Argument(help="The bucket's id.")],
    yes: Annotated[bool, typer.Option("--yes", help="Yes, with all of its events.")] = False,
) -> None:
    """Delete a bucket with all that is in it."""
    from deploy.cli.tenants import end_bucket

    raise typer.Exit(end_bucket(bucket, sure=yes))


def _process(name: str) -> None:
    from deploy.cli import run_process

    raise typer.Exit(run_process(name))
