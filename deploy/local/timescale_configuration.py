"""What the local PostgreSQL is told.

Neighbours: `timescale` writes it into the cluster's folder at every start.
Guarantee: what was committed survives a crash (fsync and synchronous commit stay on unless a caller says
otherwise); nobody reaches the server from another machine.
"""

from collections.abc import Mapping
from pathlib import Path

from deploy.local.ports import LOOPBACK

CONFIGURATION_FILE = "weir.conf"
# A socket's whole path has to fit into 108 bytes, its name and an ending zero included.
SOCKET_FOLDER_LIMIT_BYTES = 85
PASSED_ON = ("PATH", "TMPDIR", "HOME")

SETTINGS = {
    "shared_preload_libraries": "timescaledb",
    "timescaledb.telemetry_level": "off",
    "listen_addresses": LOOPBACK,
    "password_encryption": "scram-sha-256",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    # The packages of the compiler are not unpacked.
    "jit": "off",
    "max_connections": "200",
    "shared_buffers": "512MB",
    "effective_cache_size": "2GB",
    "work_mem": "16MB",
    "maintenance_work_mem": "256MB",
    "max_worker_processes": "24",
    "max_parallel_workers": "4",
    "max_parallel_workers_per_gather": "2",
    "timescaledb.max_background_workers": "8",
    "max_wal_size": "4GB",
    "min_wal_size": "256MB",
    "checkpoint_timeout": "15min",
    "checkpoint_completion_target": "0.9",
    "wal_compression": "lz4",
    "wal_buffers": "16MB",
    # No standby is fed from here.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    # Each hypertable is many tables: a transaction over months of chunks needs many locks.
    "max_locks_per_transaction": "256",
    "random_page_cost": "1.1",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    # A repeated event is an error to COPY and daily bread to the writer: statements that fail are told to
    # whoever sent them, and not written here.
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_checkpoints": "off",
}


def configuration(*, port: int, socket: Path, changes: Mapping[str, str]) -> str:
    """The text of the settings file: ours, then the port and the socket, then the caller's changes.

    A socket folder whose path is too long for the kernel is left out; TCP on loopback remains.
    """
    fits = len(str(socket).encode()) <= SOCKET_FOLDER_LIMIT_BYTES
    settings = {
        **SETTINGS,
        "port": str(port),
        "unix_socket_directories": str(socket) if fits else "",
        "unix_socket_permissions": "0777",
        **changes,
    }
    return "".join(f"{name} = {quoted(value)}\n" for name, value in settings.items())


def quoted(value: str) -> str:
    """A value as the settings file wants it."""
    doubled = value.replace("\\", "\\\\").replace("'", "''")
    return f"'{doubled}'"


def server_environment(ours: Mapping[str, str]) -> dict[str, str]:
    """The environment of the server's programs: no PG… variable of a user's shell may steer them."""
    return {name: ours[name] for name in PASSED_ON if name in ours} | {"LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}
