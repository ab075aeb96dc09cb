"""Who runs PostgreSQL: we ourselves, or, as root, an account without rights.

Neighbours: `paths` and `timescale` ask; `server` turns an account into the command that becomes it.
Guarantee: no account is made or changed. `postgres` serves where the machine has it, else `nobody`.
"""

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path

CANDIDATES = ("postgres", "nobody")
CHECK_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Account:
    """A user of this machine, by its numbers."""

    name: str
    user_id: int
    group_id: int

    @property
    def become(self) -> list[str]:
        """The `setpriv` options that drop everything and become this account."""
        return [f"--reuid={self.user_id}", f"--regid={self.group_id}", "--clear-groups"]


def server_account() -> Account | None:
    """None unless we are root; then the account that servers which refuse root run as.

    Raises:
        LookupError: root's machine has neither of the accounts.
    """
    if os.geteuid() != 0:
        return None
    for name in CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name=name, user_id=entry.pw_uid, group_id=entry.pw_gid)
    raise LookupError(
        f"PostgreSQL refuses to run as root, and this machine has no user {' or '.join(CANDIDATES)}"
    )


def can_enter(account: Account, folder: Path) -> bool:
    """Whether the account may pass through every folder on the way to `folder`, which need not exist yet."""
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    # Asking as the account itself counts access lists and mounts in, which adding up mode bits would miss.
    answer = subprocess.run(
        ["setpriv", *account.become, "--", "test", "-x", str(existing)],
        cwd="/",
        check=False,
        timeout=CHECK_SECONDS,
    )
    return answer.returncode == 0
