"""One run of schemathesis against a door: what it may use, what it checks, and what it found.

It runs as a process of its own, with a seed, within a bound of time. Some of what it sends is as the
description allows, some is not; it is told ids that are there, so that it gets behind the first 404.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from tests.conformance.scene import DEVICE, HOST, NAME, Scene, bearer

SCHEMATHESIS = Path(sys.executable).parent / "schemathesis"
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "missing_required_header",
    "unsupported_method",
    "allow_header_conformance",
    "ignored_auth",
)
# Good entries of a mixed batch are kept, so that what is wrong with one refuses nothing else.
_KEEPS_GOOD_ENTRIES = ("/v1/events", "/v1/nodes")
# By other methods it is the path of a bucket of this id, which there cannot be: 404.
_NO_BUCKET = "/api/bucket/create_classic"


@dataclass(frozen=True, slots=True)
class Run:
    """What to run. ``examples``: cases of each call; ``seconds``: of the whole run, at most."""

    url: str
    examples: int
    seconds: int
    seed: int
    phases: str = "examples,coverage,fuzzing"
    # TOML: credentials, and what parameters are like.
    configuration: str = ""
    options: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came out. ``text``: all that schemathesis said; ``failures``: its failures, one line each."""

    exit_code: int
    text: str
    failures: list[str] = field(default_factory=list)

    @property
    def cases(self) -> int:
        """How many requests were generated."""
        found = re.search(r"([\d,]+) generated", self.text)
        return int(found[1].replace(",", "")) if found else 0


def carried_out(run: Run, folder: Path) -> Outcome:
    """Run it in ``folder``, where it may leave what it likes."""
    folder.mkdir(parents=True, exist_ok=True)
    configuration = folder / "schemathesis.toml"
    configuration.write_text(f'hooks = "tests.conformance.hooks"\n{run.configuration}')
    arguments: list[str | Path] = [
        *(SCHEMATHESIS, "--config-file", configuration, "--no-color", "run", f"{run.url}/openapi.json"),
        *("--checks", ",".join(CHECKS), "--phases", run.phases, "--max-examples", str(run.examples)),
        *("--seed", str(run.seed), "--continue-on-failure", "--no-shrink", "--request-timeout", "20"),
        *("--suppress-health-check", "all", "--warnings", "off", *run.options),
    ]
    done = subprocess.run(
        arguments, cwd=folder, capture_output=True, text=True, timeout=run.seconds, check=False
    )
    text = done.stdout + done.stderr
    return Outcome(done.returncode, text, re.findall(r"^(?:_{3,} .* _{3,}|- .*)$", text, re.MULTILINE))


def with_credentials(scene: Scene) -> str:
    """What both doors are called with: a person's token, an agent's ids, a key; ids that are there."""
    public_id, secret_id = scene.pair
    auth = {
        "auth.openapi.token": {"bearer": scene.token},
        "auth.openapi.key": {"api_key": scene.key},
        "auth.openapi.publicId": {"api_key": public_id},
        "auth.openapi.secretId": {"api_key": secret_id},
    }
    return "\n".join([_tables(auth), existing(scene), let_be()])


def existing(scene: Scene) -> str:
    """What parameters are like, and what holds for single calls."""
    dictionaries: dict[str, dict[str, object]] = {
        "phases.examples": {"fill-missing": True},
        "dictionaries.buckets": {"values": [scene.bucket_id]},
        "dictionaries.spare": {"values": scene.spare},
        "dictionaries.devices": {"values": [DEVICE]},
        "dictionaries.names": {"values": [NAME]},
        "dictionaries.hosts": {"values": [HOST]},
    }
    parameters = {
        "path.bucket_id": "buckets",
        "header.X-Weir-Bucket": "buckets",
        "path.uuid": "devices",
        "path.device": "devices",
        "path.name": "names",
        "path.event_name": "names",
        "body.event_name": "names",
        "body.device_id": "devices",
        "path.host": "hosts",
    }
    lines = [_tables(dictionaries), "[parameters]"]
    lines += [_bound(place, name) for place, name in parameters.items()]
    lines += _call("/api/bucket/{bucket_id}", "DELETE", _bound("path.bucket_id", "spare"))
    # It would end the token that everything else is called with.
    lines += [
        "[[operations]]",
        'include-path = "/api/oauth/revoke"',
        f"headers = {{ Authorization = {_text(bearer(scene.spare_token)['Authorization'])} }}",
    ]
    return "\n".join(lines)


def let_be() -> str:
    """What is no defect, whoever calls."""
    lines: list[str] = []
    for path in _KEEPS_GOOD_ENTRIES:
        lines += ["[[operations]]", f"include-path = {_text(path)}"]
        lines.append("checks.negative_data_rejection.enabled = false")
    lines += [
        "[[operations]]",
        f"include-path = {_text(_NO_BUCKET)}",
        "phases.coverage.unexpected-methods = []",
    ]
    return "\n".join(lines)


def _tables(tables: Mapping[str, Mapping[str, object]]) -> str:
    return "\n".join(
        f"[{name}]\n" + "\n".join(f"{key} = {_text(value)}" for key, value in values.items())
        for name, values in tables.items()
    )


def _call(path: str, method: str, parameter: str) -> list[str]:
    return [
        "[[operations]]",
        f"include-path = {_text(path)}",
        f"include-method = {_text(method)}",
        "[operations.parameters]",
        parameter,
    ]


def _bound(place: str, dictionary: str) -> str:
    return f'{_text(place)} = {{ dictionary = "{dictionary}", probability = 0.9 }}'


def _text(value: object) -> str:
    # Strings and lists of strings are written alike in TOML and JSON.
    return orjson.dumps(value).decode()
