"""Free ports on the loopback address.

Neighbours: the tests' servers take theirs here; the supervisor asks whether its own are free.
Guarantee: a port handed out was free a moment ago, is handed out once by this process, and lies outside the
range from which the kernel takes the local ends of outgoing connections. Inside it, a server that was killed
may find its port taken by a client's connection, and a client that keeps trying to reach a dead server may
end up connected to itself.
"""

import errno
import random
import socket
from pathlib import Path

LOOPBACK = "127.0.0.1"
LEAST_PORT = 10_000
LOCAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
USUAL_LOCAL_RANGE_START = 32_768
ATTEMPTS = 500

_handed_out: set[int] = set()


def free_port(host: str = LOOPBACK) -> int:
    """A free TCP port of `host`, not handed out before.

    Raises:
        OSError: none of many tries found one.
    """
    beyond = max(local_range_start(), LEAST_PORT + 1_000)
    for _ in range(ATTEMPTS):
        port = random.randrange(LEAST_PORT, beyond)  # noqa: S311 - ports are no secret
        if port not in _handed_out and is_free(port, host):
            _handed_out.add(port)
            return port
    raise OSError(errno.EADDRINUSE, f"no free port between {LEAST_PORT} and {beyond} on {host}")


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Whether a server could listen on the port now."""
    with socket.socket() as probe:
        # As servers do: connections that are still closing do not stop a new listener.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def local_range_start() -> int:
    """The first port that the kernel may give to an outgoing connection."""
    try:
        return int(LOCAL_RANGE.read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return USUAL_LOCAL_RANGE_START
