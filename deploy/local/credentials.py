"""The files of `.weir/` that hold secrets, all with mode 0600.

`credentials.json` is for whoever wants to call the running stack: it is there only while the stack is up, and
its access token ends with it. `first-run.json` is the stack's own: the keys that the first run made, whose
text the database does not have. `secret.key` encrypts what the database has to show again.

Neighbours: `deploy.local.stack` writes them; the last screen, `weir key`, tests and other programs read the
first.
Guarantee: no file is ever readable by another user, nor half written.
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter

from api.tenancy.administration import FirstRun
from deploy.local.private_files import write_private

CREDENTIALS_FILE = "credentials.json"
FIRST_RUN_FILE = "first-run.json"
KEY_FILE = "secret.key"

_first_run = TypeAdapter(FirstRun)


class UserCredentials(BaseModel):
    """The first user, who owns the bucket. The access token lives until `weir down`."""

    model_config = ConfigDict(frozen=True)

    email: str
    access_token: str
    refresh_token: str


class BucketCredentials(BaseModel):
    """The first bucket and its keys."""

    model_config = ConfigDict(frozen=True)

    id: str
    ingest_key: str
    read_key: str


class Credentials(BaseModel):
    """What a client needs to use the running stack. `api` and `gateway` are URLs without a path."""

    model_config = ConfigDict(frozen=True)

    api: str
    gateway: str
    user: UserCredentials
    bucket: BucketCredentials


def credentials_of(first: FirstRun, *, access_token: str, api_url: str, gateway_url: str) -> Credentials:
    """The credentials of a stack that has just come up."""
    return Credentials(
        api=api_url,
        gateway=gateway_url,
        user=UserCredentials(email=first.email, access_token=access_token, refresh_token=first.refresh_token),
        bucket=BucketCredentials(id=first.bucket_id, ingest_key=first.ingest_key, read_key=first.read_key),
    )


def write_credentials(home: Path, credentials: Credentials) -> None:
    """Replace `credentials.json`."""
    write_private(home / CREDENTIALS_FILE, credentials.model_dump_json(indent=2))


def read_credentials(home: Path) -> Credentials | None:
    """The credentials of the stack that is up; None when there are none, or none that can be read."""
    try:
        return Credentials.model_validate_json((home / CREDENTIALS_FILE).read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def remove_credentials(home: Path) -> None:
    """Remove `credentials.json`: the stack is down."""
    (home / CREDENTIALS_FILE).unlink(missing_ok=True)


def write_first_run(home: Path, first: FirstRun) -> None:
    """Keep what the first run made."""
    write_private(home / FIRST_RUN_FILE, _first_run.dump_json(first, indent=2).decode())


def read_first_run(home: Path) -> FirstRun | None:
    """What an earlier run made; None when nothing is kept, or nothing that can be read."""
    try:
        return _first_run.validate_json((home / FIRST_RUN_FILE).read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def kept_secret_key(home: Path) -> str:
    """The key that encrypts secrets of the database; made at the first run, the same ever after."""
    place = home / KEY_FILE
    if not place.exists():
        # Its cipher is slow to import, and only a first run needs it.
        from api.tenancy.secrecy import new_key  # noqa: PLC0415

        write_private(place, new_key())
    return place.read_text().strip()
