"""What the `weir` command shows and writes, without any server."""

import io
import json
import os
import shlex
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from api.tenancy.administration import FirstRun, with_duty
from deploy.cli.screens import Progress, called, paste_lines, show_last_screen
from deploy.cli.status import age, looked_at
from deploy.local.credentials import (
    CREDENTIALS_FILE,
    FIRST_RUN_FILE,
    KEY_FILE,
    Credentials,
    credentials_of,
    read_credentials,
    read_first_run,
    remove_credentials,
    write_credentials,
    write_first_run,
)
from deploy.local.doctor import Finding, broker_finding, guarded, secrets_finding
from deploy.local.occupancy import conflicts
from deploy.local.private_files import write_private
from deploy.local.settings import LocalSettings, local_url
from deploy.local.state import STATE_FILE, ProcessState, Standing
from deploy.local.supervisor import Report
from schema.errors import Invalid, Unavailable
from schema.migrations.migrate import upgrade

FIRST = FirstRun(
    workspace_id="1" * 24,
    user_id="2" * 24,
    email="owner@weir.localhost",
    refresh_token="weir_refresh_r",
    bucket_id="3" * 24,
    ingest_key="weir_ingest_i",
    read_key="weir_read_r",
)


@pytest.fixture
def credentials() -> Credentials:
    return credentials_of(
        FIRST, access_token="weir_access_a", api_url="http://127.0.0.1:1", gateway_url="http://127.0.0.1:2"
    )


def settings(**given: object) -> LocalSettings:
    return LocalSettings.model_validate(given)


# --- credentials


def test_the_credentials_file_has_exactly_the_documented_shape_and_is_private(
    tmp_path: Path, credentials: Credentials
) -> None:
    before = os.umask(0)
    write_credentials(tmp_path, credentials)
    os.umask(before)
    path = tmp_path / CREDENTIALS_FILE
    assert json.loads(path.read_text()) == {
        "api": "http://127.0.0.1:1",
        "gateway": "http://127.0.0.1:2",
        "user": {
            "email": "owner@weir.localhost",
            "access_token": "weir_access_a",
            "refresh_token": "weir_refresh_r",
        },
        "bucket": {"id": "3" * 24, "ingest_key": "weir_ingest_i", "read_key": "weir_read_r"},
    }
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_credentials(tmp_path) == credentials
    remove_credentials(tmp_path)
    assert read_credentials(tmp_path) is None


def test_what_the_first_run_made_is_kept_privately(tmp_path: Path) -> None:
    assert read_first_run(tmp_path) is None
    write_first_run(tmp_path, FIRST)
    assert read_first_run(tmp_path) == FIRST
    assert stat.S_IMODE((tmp_path / FIRST_RUN_FILE).stat().st_mode) == 0o600


@pytest.mark.parametrize("name", [CREDENTIALS_FILE, FIRST_RUN_FILE, KEY_FILE, STATE_FILE])
def test_the_doctor_notices_secrets_that_others_can_read(tmp_path: Path, name: str) -> None:
    write_private(tmp_path / name, "hunter2")
    assert secrets_finding(tmp_path).well
    (tmp_path / name).chmod(0o644)
    finding = secrets_finding(tmp_path)
    assert not finding.well
    assert finding.remedy == f"chmod 600 {tmp_path / name}"


@pytest.mark.parametrize("dsn", ["weir:hunter2@db.example", "postgresql://weir:hunter2@[::/weir"])
@pytest.mark.parametrize("asked", [with_duty, upgrade])
def test_what_is_no_dsn_is_refused_without_being_quoted(dsn: str, asked: Callable[[str], object]) -> None:
    with pytest.raises(Invalid, match=r"^WEIR_DATABASE_DSN: ") as refused:
        asked(dsn)
    assert "hunter2" not in refused.value.message


# --- the last screen


@pytest.mark.parametrize(
    ("program", "on_the_path", "typed"),
    [
        (".venv/bin/weir", False, ".venv/bin/weir down"),
        (".venv/bin/weir", True, "weir down"),
        ("deploy/cli/__main__.py", False, "weir down"),
    ],
)
def test_commands_are_shown_as_they_can_be_typed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str, on_the_path: bool, typed: str
) -> None:
    (tmp_path / "weir").touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path) if on_the_path else "/nowhere")
    monkeypatch.setattr(sys, "argv", [program, "up"])
    assert called("down") == typed


def test_the_last_screen_shows_what_is_needed_and_breaks_no_line_to_paste(
    tmp_path: Path, credentials: Credentials
) -> None:
    narrow = Console(file=io.StringIO(), width=40)
    show_last_screen(narrow, credentials, tmp_path, seconds=12.34)
    assert isinstance(narrow.file, io.StringIO)
    shown = narrow.file.getvalue()
    for needed in (
        *("http://127.0.0.1:1/docs", "http://127.0.0.1:2", "3" * 24, "weir_ingest_i", "weir_read_r"),
        *("owner@weir.localhost", "weir_access_a", "12.3 s", str(tmp_path / CREDENTIALS_FILE)),
    ):
        assert needed in shown
    for _, command in paste_lines(credentials):
        assert command in shown


def test_the_lines_to_paste_are_a_shell_script_that_passes_the_receipt_on(
    tmp_path: Path, credentials: Credentials
) -> None:
    # A curl that answers as the gateway does, and notes how it was called.
    curl = tmp_path / "curl"
    calls = tmp_path / "calls"
    curl.write_text(
        "#!/bin/sh\n"
        f'for word in "$@"; do printf "%s\\n" "$word"; done >> {calls}\n'
        'echo \'{"accepted": 1, "rejected": [], "receipt": "1.weir-Ab_9=:7"}\'\n'
    )
    curl.chmod(0o755)
    script = "set -eu\n" + "\n".join(command for _, command in paste_lines(credentials))
    for shell in ("sh", "bash"):
        calls.unlink(missing_ok=True)
        subprocess.run(
            [shell, "-c", script], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, check=True, timeout=10
        )
        words = calls.read_text().splitlines()
        assert "X-Weir-Receipt: 1.weir-Ab_9=:7" in words
        assert "X-Api-Key: weir_ingest_i" in words
        assert f"http://127.0.0.1:1/api/bucket/{'3' * 24}/data/events/stats" in words
        bodies = [json.loads(word) for word in words if word.startswith("{")]
        assert [body.get("name") or body["event_name"] for body in bodies] == [
            "hello",
            "hello",
            "system.load",
        ]


def test_progress_tells_what_happened_and_not_what_is_still_going_on() -> None:
    console = Console(file=io.StringIO(), width=200)
    progress = Progress(console)
    progress.report(Report("kafka", Standing.STARTING, ""))
    progress.report(Report("kafka", Standing.READY, ""))
    progress.up()
    progress.report(
        Report("kafka", Standing.RESTARTING, "was killed by SIGKILL; starting it again in 0.5 s", ("[x",))
    )
    progress.report(Report("kafka", Standing.READY, ""))
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert len(lines) == 4
    assert lines[0].endswith("Kafka is ready")
    assert "killed by SIGKILL" in lines[1]
    assert lines[2].endswith("│ [x")
    assert lines[3].endswith("Kafka is ready again")


# --- settings and ports


def test_what_is_given_is_not_started_and_takes_no_port() -> None:
    ours = settings()
    assert {"kafka", "kafka controller", "database"} < set(ours.ports())
    given = settings(kafka_bootstrap="kafka.example:9092", database_dsn="postgresql://example/weir")
    assert set(given.ports()) == {"api", "gateway", "writer", "agent"}


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://127.0.0.1:80"),
        ("::1", "http://[::1]:80"),
        ("weir.example", "http://weir.example:80"),
    ],
)
def test_a_process_that_listens_everywhere_is_asked_over_loopback(host: str, url: str) -> None:
    assert local_url(host, 80) == url


def test_a_taken_port_is_explained_by_its_holder_and_the_setting_that_changes_it() -> None:
    program = (
        "import socket, time; s = socket.create_server(('127.0.0.1', 0));"
        "print(s.getsockname()[1], flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as squatter:
        assert squatter.stdout is not None
        port = int(squatter.stdout.readline())
        found = conflicts(settings(gateway_port=port))
        squatter.kill()
    explained = next(sentence for sentence in found if str(port) in sentence)
    assert f"process {squatter.pid}" in explained
    assert "WEIR_GATEWAY_PORT" in explained


def test_two_parts_that_want_one_port_are_a_conflict() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    found = conflicts(settings(gateway_port=port, writer_port=port))
    assert any("gateway" in sentence and "writer" in sentence for sentence in found)


# --- status and doctor


@pytest.mark.parametrize(("seconds", "shown"), [(5, "5 s"), (150, "2 min"), (7300, "2 h"), (200_000, "2 d")])
def test_an_age_is_told_in_the_largest_fitting_unit(seconds: int, shown: str) -> None:
    assert age(datetime.now(UTC) - timedelta(seconds=seconds)) == shown


def test_a_process_noted_as_ready_that_has_gone_is_not_shown_as_ready() -> None:
    gone = ProcessState(name="writer", standing=Standing.READY, pid=2**22 + 1, pid_created_at=1.0)
    assert looked_at(gone).standing is Standing.RESTARTING


def test_a_check_that_fails_itself_is_a_finding() -> None:
    def broken() -> Finding:
        raise Unavailable("the disk has gone")

    assert guarded(broken) == Finding("check-up", well=False, text="the disk has gone")


@pytest.mark.parametrize("bootstrap", ["kafka", "kafka:", ":9092", "kafka:nine", ""])
def test_the_doctor_says_how_a_broker_is_named(bootstrap: str) -> None:
    finding = broker_finding(bootstrap)
    assert not finding.well
    assert "kafka.example:9092" in finding.remedy


# --- the command line


def weir(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deploy.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env={**os.environ, **environment},
    )


def test_help_lists_the_commands_and_is_quick() -> None:
    weir("--help")
    began = time.monotonic()
    shown = weir("--help")
    took = time.monotonic() - began
    assert shown.returncode == 0
    for command in shlex.split("up down status logs doctor migrate gateway writer api agent key"):
        assert f"\n  {command} " in shown.stdout
    # 60 ms where it was measured; rich, pydantic or a driver among its imports would take it beyond this.
    assert took < 1.0


def test_help_loads_nothing_heavy() -> None:
    program = "import sys; from deploy.cli.app import app; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30
    )
    assert not {"pydantic", "psycopg", "aiokafka", "psutil", "rich.table"} & set(loaded.stdout.split())


def test_a_process_loads_no_terminal_library() -> None:
    program = "import sys; sys.argv = ['weir', 'gateway']; import deploy.cli; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30
    )
    assert not {"typer", "rich"} & set(loaded.stdout.split())


def test_a_setting_that_cannot_be_is_named(tmp_path: Path) -> None:
    refused = weir("up", WEIR_HOME=str(tmp_path), WEIR_API_PORT="eighty")
    assert refused.returncode == 2
    assert "WEIR_API_PORT" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("process", ["gateway", "writer", "api", "agent"])
def test_a_process_names_the_setting_that_cannot_be(process: str) -> None:
    refused = weir(process, **{f"WEIR_{process.upper()}_PORT": "70000", "WEIR_LOG_LEVEL": "loud"})
    assert refused.returncode == 2
    assert f"weir {process}: WEIR_{process.upper()}_PORT: " in refused.stderr
    assert f"weir {process}: WEIR_LOG_LEVEL: " in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("process", ["gateway", "writer", "api"])
def test_a_process_whose_port_is_taken_says_so(process: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refused = weir(
            process, **{f"WEIR_{process.upper()}_PORT": port, "WEIR_KAFKA_BOOTSTRAP": "127.0.0.1:9"}
        )
    assert refused.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["status"], 3, "Weir is down"),
        (["down"], 0, "not up"),
        (["logs"], 1, "no logs"),
        (["logs", "writer"], 1, "no log of writer"),
        (["key", "list"], 1, "WEIR_DATABASE_DSN"),
        (["key", "create", "--scope", "everything"], 1, "ingest, read, admin"),
        (["migrate"], 1, "WEIR_DATABASE_DSN"),
    ],
)
def test_without_a_stack_every_command_says_so(
    tmp_path: Path, arguments: list[str], code: int, said: str
) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WEIR_")}
    answer = subprocess.run(
        [sys.executable, "-m", "deploy.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env={**environment, "WEIR_HOME": str(tmp_path)},
    )
    assert answer.returncode == code
    assert said in answer.stdout + answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize("asked", [["query API"], ["query", "api"], ["api"]])
def test_logs_take_the_title_that_they_show(tmp_path: Path, asked: list[str]) -> None:
    (tmp_path / "logs").mkdir()
    for name in ("api", "database", "supervisor"):
        (tmp_path / "logs" / f"{name}.log").write_text(f"a line of {name}\n")
    answer = weir("logs", *asked, WEIR_HOME=str(tmp_path))
    assert answer.stdout == "query API a line of api\n"
    every = weir("logs", WEIR_HOME=str(tmp_path))
    assert every.stdout.splitlines() == [
        "query API   a line of api",
        "TimescaleDB a line of database",
        "supervisor  a line of supervisor",
    ]
    refused = weir("logs", "gateway", WEIR_HOME=str(tmp_path))
    assert refused.returncode == 1
    assert "there is no log of gateway; there are: query API, TimescaleDB, supervisor" in refused.stderr


def test_a_taken_port_stops_the_start_before_anything_is_started(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refused = weir(
            "up",
            WEIR_HOME=str(tmp_path),
            WEIR_KAFKA_BOOTSTRAP="127.0.0.1:1",
            WEIR_DATABASE_DSN="postgresql://127.0.0.1:1/none",
            WEIR_API_PORT=port,
        )
    assert refused.returncode == 1
    assert f"process {os.getpid()}" in refused.stdout.replace("\n", " ")
    assert not (tmp_path / "logs").exists()
