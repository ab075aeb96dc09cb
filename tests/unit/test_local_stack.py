"""The parts of the local stack that need no server."""

import socket
import time
from pathlib import Path

import pytest

from deploy.local.account import Account, can_enter
from deploy.local.debian_packages import Source, machine_source
from deploy.local.downloads import installation_lock, new_folder, run_bounded
from deploy.local.kafka_probe import broker_answers, brokers_in, metadata_request
from deploy.local.paths import OPEN_HOME, database_home, local_paths
from deploy.local.ports import free_port, is_free, local_range_start
from deploy.local.server import keep_short
from deploy.local.timescale import is_used
from deploy.local.timescale_configuration import configuration, quoted, server_environment
from schema.errors import Unavailable

STANZA = """\
Types: deb
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""
SECURITY = """\
Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
"""
ONE_LINE_LIST = """\
# deb http://other.example/debian bookworm main
deb http://mirror.example/debian-security bookworm-security main
deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian trixie main contrib # ours
"""


def apt_folder(folder: Path, name: str, text: str) -> Path:
    place = folder / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (
            "sources.list.d/debian.sources",
            f"{SECURITY}\n{STANZA}",
            Source("http://mirror.example/debian", "/usr/share/keyrings/debian-archive-keyring.gpg"),
        ),
        (
            "sources.list",
            ONE_LINE_LIST,
            Source("http://mirror.example/debian", "/k.gpg"),
        ),
        (
            "sources.list.d/debian.list",
            "deb http://mirror.example/debian stable main\n",
            Source("http://mirror.example/debian", None),
        ),
    ],
)
def test_the_machines_own_site_is_found(tmp_path: Path, name: str, text: str, expected: Source) -> None:
    assert machine_source(apt_folder(tmp_path, name, text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        SECURITY,
        STANZA.replace("Types: deb", "Types: deb-src"),
        STANZA + "Enabled: no\n",
        STANZA.replace("bookworm bookworm-updates", "noble"),
    ],
)
def test_a_machine_without_debians_archive_is_told_what_to_do(tmp_path: Path, text: str) -> None:
    with pytest.raises(Unavailable, match="WEIR_DATABASE_DSN"):
        machine_source(apt_folder(tmp_path, "sources.list.d/some.sources", text))


def test_only_what_the_server_runs_with_is_fetched() -> None:
    assert all(
        map(is_used, ("postgresql-17", "postgresql-17-timescaledb", "libc6", "libicu76", "zlib1g", "libpq5"))
    )
    assert not any(
        map(is_used, ("perl", "libllvm19", "libz3-4", "libjson-perl", "locales", "adduser", "openssl"))
    )


def test_a_command_that_hangs_is_ended_with_its_children() -> None:
    began = time.monotonic()
    with pytest.raises(Unavailable, match=r"waiting: not done after 0\.5 s"):
        run_bounded(["sh", "-c", "sleep 60 & sleep 60"], timeout_seconds=0.5, purpose="waiting")
    assert time.monotonic() - began < 5


def test_a_command_that_fails_says_its_last_words() -> None:
    with pytest.raises(Unavailable, match="no such planet"):
        run_bounded(["sh", "-c", "echo no such planet; exit 3"], timeout_seconds=10, purpose="landing")


def test_a_command_that_is_missing_says_so() -> None:
    with pytest.raises(Unavailable, match="cannot be started"):
        run_bounded(["weir-no-such-program"], timeout_seconds=10, purpose="trying")


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    final = tmp_path / "program"
    half = new_folder(final)
    (half.__enter__() / "half").touch()
    assert not half.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert not final.exists()
    with new_folder(final) as fresh:
        assert list(fresh.iterdir()) == []
        (fresh / "whole").touch()
    assert [entry.name for entry in final.iterdir()] == ["whole"]


def test_a_second_installation_waits_only_so_long(tmp_path: Path) -> None:
    with (
        installation_lock(tmp_path, timeout_seconds=1),
        pytest.raises(Unavailable, match="does not end"),
        installation_lock(tmp_path, timeout_seconds=0.3),
    ):
        pass
    with installation_lock(tmp_path, timeout_seconds=0.3):
        pass


def test_free_ports_differ_and_keep_out_of_the_kernels_range() -> None:
    ports = [free_port() for _ in range(20)]
    assert len(set(ports)) == 20
    assert max(ports) < local_range_start()


def test_a_port_with_a_listener_is_not_free() -> None:
    port = free_port()
    assert is_free(port)
    with socket.create_server(("127.0.0.1", port)):
        assert not is_free(port)


def test_nobody_answers_on_a_free_port() -> None:
    assert not broker_answers("127.0.0.1", free_port(), timeout_seconds=0.5)


def test_a_listener_that_says_nothing_is_no_broker() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        assert not broker_answers("127.0.0.1", silent.getsockname()[1], timeout_seconds=0.3)
        assert time.monotonic() - began < 2


def test_the_probe_counts_brokers_and_trusts_only_its_own_answer() -> None:
    assert int.from_bytes(metadata_request()[:4]) == len(metadata_request()) - 4
    assert brokers_in(bytes.fromhex("00000001 00000000 00000002 ffff")) == 2
    assert brokers_in(bytes.fromhex("00000002 00000000 00000002 ffff")) == 0
    assert brokers_in(b"\x00\x00") == 0


def test_settings_survive_quoting() -> None:
    assert quoted(r"a'b\c") == r"'a''b\\c'"


def test_a_callers_setting_replaces_ours() -> None:
    text = configuration(
        port=1234, socket=Path("/run/weir"), changes={"fsync": "off", "log_statement": "all"}
    )
    lines = text.splitlines()
    assert "fsync = 'off'" in lines
    assert "fsync = 'on'" not in lines
    assert "log_statement = 'all'" in lines
    assert "unix_socket_directories = '/run/weir'" in lines


def test_a_socket_too_deep_for_the_kernel_is_left_out() -> None:
    text = configuration(port=1234, socket=Path("/", "x" * 100), changes={})
    assert "unix_socket_directories = ''" in text.splitlines()


def test_no_variable_of_a_users_shell_steers_the_server() -> None:
    environment = server_environment({"PGDATA": "/elsewhere", "PATH": "/bin", "LC_ALL": "tr_TR.UTF-8"})
    assert environment == {"PATH": "/bin", "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}


def test_the_home_can_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEIR_HOME", str(tmp_path))
    assert local_paths().home == tmp_path
    assert local_paths().kafka_data == tmp_path / "data" / "kafka"


def test_without_root_everything_lies_in_the_home(tmp_path: Path) -> None:
    assert database_home(tmp_path, None) == tmp_path


def test_a_home_closed_to_the_servers_account_is_left(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    # setpriv changes user only for root; asked by anybody else it fails, which is a "no" as well.
    nobody = Account("nobody", 65534, 65534)
    assert not can_enter(nobody, closed / "project" / ".weir")
    assert database_home(closed, nobody).parent == OPEN_HOME
    assert database_home(closed, nobody) != database_home(closed / "another", nobody)


def test_a_long_output_is_put_aside(tmp_path: Path) -> None:
    output = tmp_path / "server.log"
    keep_short(output)
    output.write_bytes(b"x" * 100)
    keep_short(output)
    assert output.exists()
    with output.open("ab") as file:
        file.truncate(5 * 1024 * 1024)
    keep_short(output)
    assert not output.exists()
    assert (tmp_path / "server.log.1").exists()
