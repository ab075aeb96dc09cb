"""Nothing that a process logs holds a secret."""

from __future__ import annotations

import inspect
import logging
import subprocess
import sys
from collections.abc import Iterator

import orjson
import pytest
import structlog
from aiokafka.consumer import group_coordinator
from aiokafka.errors import GroupAuthorizationFailedError, GroupCoordinatorNotAvailableError
from pydantic import ValidationError

from schema.identities import new_secret
from schema.logs import CoordinatorPatience, configure_logs, without_secrets
from schema.settings import ApiSettings, GatewaySettings, LogSettings, WriterSettings

KEY = new_secret("ingest")
TOKEN = new_secret("access")
MAILED = new_secret("mail")
DSN = "postgresql://weir:hunter2@db.example:5432/weir"


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    configured = structlog.get_config()
    yield
    root.handlers[:], root.level = before
    structlog.configure(**configured)
    structlog.contextvars.clear_contextvars()


FORMATS = pytest.mark.parametrize("log_format", ["json", "console"])


@FORMATS
@pytest.mark.parametrize(
    "fields",
    [
        {"event": "refused", "authorization": "Basic abc:hunter2"},
        {"event": "refused", "Api_Key": KEY},
        {"event": "no database", "database_dsn": DSN},
        {"event": "login", "password": "hunter2"},
        {"event": "request", "headers": {"X-Api-Key": "hunter2", "Authorization": f"Bearer {TOKEN}"}},
        {"event": "list", "items": [KEY, ("x", DSN), {"token": "hunter2"}]},
        {"event": "error", "error": ValueError(f"bad key {KEY}")},
    ],
    ids=",".join,
)
def test_no_field_holds_a_secret(
    fields: dict[str, object], log_format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logs(LogSettings.model_validate({"log_format": log_format}), "test")
    structlog.get_logger("tests").info(**fields)
    written = capsys.readouterr().err
    assert str(fields["event"]) in written
    assert not secrets_in(written)


@FORMATS
@pytest.mark.parametrize(
    "text",
    [
        f"key {KEY} refused",
        f"Authorization: Bearer {TOKEN}",
        f"no answer from {DSN}",
        f"/invitation?secret={MAILED}",
    ],
    ids=("key", "token", "dsn", "mailed"),
)
def test_no_text_holds_a_secret(text: str, log_format: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither ours, nor a library's, nor an error's, nor a traceback's."""
    configure_logs(LogSettings.model_validate({"log_format": log_format}), "test")
    structlog.get_logger("tests").info(text, detail=text)
    logging.getLogger("library").warning("%s", text)
    structlog.get_logger("tests").error("failed", exc_info=RuntimeError(text))
    written = capsys.readouterr().err
    assert written.count("\n") >= 3
    assert not secrets_in(written)


def secrets_in(written: str) -> list[str]:
    return [secret for secret in (KEY[-30:], TOKEN[-30:], MAILED[-30:], "hunter2") if secret in written]


def test_a_line_is_one_json_object_with_its_process(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(LogSettings(log_format="json"), "writer")
    structlog.get_logger("tests").info("stored", events=3, bucket_id="ab")
    (line,) = capsys.readouterr().err.splitlines()
    told = orjson.loads(line)
    assert (told["event"], told["events"], told["bucket_id"], told["process"], told["level"]) == (
        "stored",
        3,
        "ab",
        "writer",
        "info",
    )
    assert told["timestamp"].endswith("Z")


def test_what_is_no_secret_is_left_alone() -> None:
    fields = {"event": "stored", "bucket_id": "ab" * 12, "url": "http://127.0.0.1:8080/x", "partition": 3}
    assert without_secrets(None, "info", dict(fields)) == fields


def test_logs_that_nobody_configured_hold_no_local_variables() -> None:
    """A DSN is a local variable in half of the functions that a failed connection's traceback shows."""
    script = (
        "import schema.connections, structlog\n"
        "from schema.settings import WriterSettings\n"
        "def connect(dsn, settings):\n"
        "    1 / 0\n"
        "try:\n"
        f"    connect({DSN!r}, WriterSettings(database_dsn={DSN!r}))\n"
        "except ZeroDivisionError:\n"
        "    structlog.get_logger('tests').exception('failed')\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    written = ran.stdout + ran.stderr
    assert "ZeroDivisionError" in written
    assert "hunter2" not in written


def test_settings_show_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither as they are, nor in the words of what refuses them."""
    for name in ("database_dsn", "maintenance_dsn", "database_read_dsn", "smtp_password", "secret_key"):
        monkeypatch.setenv(f"WEIR_{name.upper()}", DSN)
    for process in (GatewaySettings, WriterSettings, ApiSettings):
        assert "hunter2" not in repr(process())
    monkeypatch.setenv("WEIR_DEFAULT_PLAN", "none such")
    with pytest.raises(ValidationError) as refused:
        ApiSettings()
    assert "default_plan" in str(refused.value)
    assert "hunter2" not in str(refused.value)


NO_COORDINATOR = "Group Coordinator Request failed: %s"


def test_a_coordinator_that_is_not_there_yet_is_a_warning_and_one_that_does_not_come_is_an_error() -> None:
    moments = iter((0.0, 0.1, 7.0, 14.9, 15.1, 20.0, 30.0, 60.0))
    patience = CoordinatorPatience(lambda: next(moments))

    def level(message: str, error: Exception) -> str:
        record = logging.LogRecord("aiokafka", logging.ERROR, "", 0, message, (error,), None)
        assert patience.filter(record)
        return record.levelname

    missing = GroupCoordinatorNotAvailableError()
    # Before the last of them it was there for a while.
    levels = [level(NO_COORDINATOR, missing) for _ in range(8)]
    assert levels == ["WARNING"] * 4 + ["ERROR"] * 3 + ["WARNING"]
    assert level(NO_COORDINATOR, GroupAuthorizationFailedError()) == "ERROR"
    assert level("Heartbeat failed: %r", missing) == "ERROR"


def test_the_client_still_says_so_in_these_words_and_with_this_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert f'log.error("{NO_COORDINATOR}", err)' in inspect.getsource(group_coordinator)
    configure_logs(LogSettings(log_format="json"), "test")
    client = logging.getLogger(group_coordinator.__name__)
    client.error(NO_COORDINATOR, GroupCoordinatorNotAvailableError())
    client.error("something else")
    levels = [orjson.loads(line)["level"] for line in capsys.readouterr().err.splitlines()]
    assert levels == ["warning", "error"]
