"""Asks a broker for the cluster's brokers, in its own protocol, without a client library.

Neighbours: `kafka` waits with it.
Guarantee: an answer within `timeout_seconds`. Yes means that the controller lets the broker serve: before
that, a broker already accepts connections, but its list of brokers is empty.
"""

import socket
import struct

METADATA_KEY = 3
METADATA_VERSION = 4
CORRELATION = 1
CLIENT = b"weir-probe"
ANSWER_LIMIT_BYTES = 1024 * 1024


def broker_answers(host: str, port: int, *, timeout_seconds: float = 2.0) -> bool:
    """Whether a broker at the address hands out at least one broker to talk to."""
    try:
        with socket.create_connection((host, port), timeout=timeout_seconds) as connection:
            connection.sendall(metadata_request())
            (size,) = struct.unpack(">i", received(connection, 4))
            if not 0 < size <= ANSWER_LIMIT_BYTES:
                return False
            return brokers_in(received(connection, size)) > 0
    except OSError:
        return False


def metadata_request() -> bytes:
    """A request for the brokers and the metadata of no topic."""
    header = struct.pack(">hhih", METADATA_KEY, METADATA_VERSION, CORRELATION, len(CLIENT)) + CLIENT
    body = struct.pack(">ib", 0, 0)
    return struct.pack(">i", len(header) + len(body)) + header + body


def brokers_in(answer: bytes) -> int:
    """How many brokers an answer lists; 0 if it is not an answer to our request."""
    if len(answer) < 12:
        return 0
    correlation, _throttle_ms, brokers = struct.unpack(">iii", answer[:12])
    return int(brokers) if correlation == CORRELATION else 0


def received(connection: socket.socket, size: int) -> bytes:
    """Exactly `size` bytes. Raises OSError when the other side ends before."""
    parts = bytearray()
    while len(parts) < size:
        part = connection.recv(size - len(parts))
        if not part:
            raise ConnectionResetError("the broker closed the connection")
        parts += part
    return bytes(parts)
