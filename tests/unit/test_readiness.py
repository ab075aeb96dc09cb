"""What is made of a process's /readyz, and of a process that has none to give."""

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from deploy.local.readiness import missing_parts, readiness, understood


class Answers(BaseHTTPRequestHandler):
    status = 200
    body = b"{}"

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name for it
        """A test has nothing to log."""


@pytest.fixture
def url() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Answers)
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    serving.start()
    yield f"http://127.0.0.1:{server.server_port}/readyz"
    server.shutdown()
    serving.join()
    server.server_close()


def test_a_process_that_answers_200_misses_nothing(url: str) -> None:
    Answers.status, Answers.body = 200, b"{}"
    assert missing_parts(url) is None


def test_what_is_degraded_and_the_facts_of_a_ready_process_are_told(url: str) -> None:
    Answers.status = 200
    Answers.body = json.dumps(
        {"ready": True, "missing": {}, "degraded": {"lag": "9 s"}, "edition": "apache"}
    ).encode()
    answer = readiness(url)
    assert answer.missing is None
    assert answer.degraded == "lag: 9 s"
    assert answer.facts == {"edition": "apache"}


def test_what_a_503_names_is_told(url: str) -> None:
    Answers.status = 503
    Answers.body = json.dumps({"ready": False, "missing": {"kafka": "no broker answers"}}).encode()
    assert missing_parts(url) == "kafka: no broker answers"


def test_a_503_that_names_nothing_is_told_by_its_status(url: str) -> None:
    Answers.status, Answers.body = 503, b"<html>"
    assert missing_parts(url) == "answers 503"


def test_a_port_that_nobody_listens_on_is_not_listening_yet() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        assert missing_parts(f"http://127.0.0.1:{unused.getsockname()[1]}/readyz") == "not listening yet"


def test_a_frozen_process_is_told_within_the_timeout() -> None:
    with socket.socket() as frozen:
        frozen.bind(("127.0.0.1", 0))
        frozen.listen()
        url = f"http://127.0.0.1:{frozen.getsockname()[1]}/readyz"
        assert missing_parts(url, timeout_seconds=0.2) == "does not answer within 0.2 s"


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b'{"missing": ["kafka", "database"]}', "kafka, database"),
        (b'{"missing": {"kafka": null}}', "kafka"),
        (b'{"missing": "everything"}', "everything"),
        (b"[]", "answers 503"),
        (b"not json", "answers 503"),
    ],
)
def test_the_missing_parts_are_named_whatever_the_form(body: bytes, named: str) -> None:
    assert understood(503, body).missing == named
