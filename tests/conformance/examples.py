"""Every example of a door's description, sent as it stands: all of them have to work."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from tests.conformance.scene import DEVICE, HOST, NAME, Scene, bearer
from tests.support.processes import Process


@dataclass(frozen=True, slots=True)
class Sent:
    """One example, and the status that it was answered with."""

    call: str
    example: str
    status: int
    answer: str


def sent_examples(door: Process, scene: Scene) -> Iterator[Sent]:
    """Each example of ``door``'s description, in its order."""
    with urllib.request.urlopen(f"{door.url}/openapi.json", timeout=10) as answer:
        description = orjson.loads(answer.read())
    for path, methods in description["paths"].items():
        for method, call in methods.items():
            for media_type, content in call.get("requestBody", {}).get("content", {}).items():
                for name, example in content.get("examples", {}).items():
                    status, text = _asked(
                        door.url + _filled(path, scene),
                        method.upper(),
                        example["value"],
                        {"Content-Type": media_type, **_credential(call, scene)},
                    )
                    yield Sent(f"{method.upper()} {path}", name, status, text)


def _filled(path: str, scene: Scene) -> str:
    values = {"bucket_id": scene.bucket_id, "host": HOST, "name": NAME, "uuid": DEVICE, "device": DEVICE}
    for name, value in values.items():
        path = path.replace(f"{{{name}}}", value)
    return path


def _credential(call: dict[str, Any], scene: Scene) -> dict[str, str]:
    if {"token": []} in call["security"]:
        return {**bearer(scene.token), "X-Weir-Bucket": scene.bucket_id}
    return {"X-Api-Key": scene.key} if {"key": []} in call["security"] else {}


def _asked(url: str, method: str, value: Any, headers: dict[str, str]) -> tuple[int, str]:
    body = value.encode() if isinstance(value, str) else orjson.dumps(value)
    request = urllib.request.Request(url, data=body, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")
