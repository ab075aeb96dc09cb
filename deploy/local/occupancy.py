"""Who holds a port that we want, in words that say what to do about it.

Neighbours: `weir up` asks before it starts anything, `weir doctor` at any time; `deploy.local.ports` tries a
port.
Guarantee: a process is named only if the system shows it to this user; otherwise the port alone.
"""

import shlex

import psutil

from deploy.local.ports import is_free
from deploy.local.settings import LocalSettings
from deploy.local.titles import title

SHOWN_COMMAND = 60


def conflicts(settings: LocalSettings) -> list[str]:
    """A sentence for each port of the stack that is taken, and for each that two of its parts want."""
    found = []
    wanted: dict[int, str] = {}
    for part, (host, port, variable) in settings.ports().items():
        if port in wanted:
            found.append(
                f"port {port} is wanted by {title(wanted[port])} and by {title(part)}: "
                f"give one of them another, with {variable}"
            )
        elif not is_free(port, host):
            found.append(
                f"port {port}, wanted by {title(part)}, is held by {holder(port)}: end that, "
                f"or choose another port with {variable}"
            )
        wanted[port] = part
    return found


def holder(port: int) -> str:
    """The process that listens on a port, by its command and number."""
    for connection in psutil.net_connections("tcp"):
        listens = (
            connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port
        )
        if listens and connection.pid is not None:
            return described(connection.pid)
    return "a process of another user"


def described(pid: int) -> str:
    """A process as a person would name it: its command line, shortened, and its number."""
    try:
        process = psutil.Process(pid)
        command = shlex.join(process.cmdline()) or process.name()
    except psutil.Error:
        return f"process {pid}"
    shown = command if len(command) <= SHOWN_COMMAND else command[: SHOWN_COMMAND - 1] + "…"
    return f"{shown} (process {pid})"
