"""A machine with PM2 on it, for tests: its daemon, a small application, and its agent, all as published.

Everything is in a PM2_HOME of its own. PM2 puts its processes into the background; whatever runs with that
PM2_HOME when the block ends is killed, by its id.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deploy.local.ports import free_port
from tests.support.node_programs import NODE, environment, node_folder

PROGRAMS = Path(__file__).parent / "pm2"
COMMAND_SECONDS = 90.0
END_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Machine:
    """``name``: as PM2's agent gives it; ``gateway``: where that agent is to look for its server."""

    home: Path
    name: str
    gateway: str
    modules: Path
    shop_port: int

    @property
    def pm2_version(self) -> str:
        return str(json.loads((self.modules / "pm2/package.json").read_text())["version"])

    def pm2(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """One command of PM2's command line."""
        return subprocess.run(
            [NODE, self.modules / "pm2/bin/pm2", *arguments],
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )

    def start_shop(self) -> None:
        """The application, and with it PM2's daemon."""
        started = self.pm2("start", str(PROGRAMS / "shop.js"), "--name", "shop")
        assert started.returncode == 0, started.stdout + started.stderr

    def start_agent(self, public_id: str, secret_id: str) -> None:
        """The agent that npm has by itself, in the way in which a PM2 that depends on it starts it."""
        with (self.home / "agent.log").open("wb") as output:
            subprocess.Popen(
                [NODE, self.modules / "@pm2/agent/src/InteractorDaemon.js"],
                env={
                    **self._environment(),
                    "PM2_MACHINE_NAME": self.name,
                    "PM2_PUBLIC_KEY": public_id,
                    "PM2_SECRET_KEY": secret_id,
                    "PM2_VERSION": self.pm2_version,
                    "WS_JSON_PATCH": "true",
                },
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def link(self, public_id: str, secret_id: str) -> subprocess.CompletedProcess[str]:
        """``pm2 link``, again where the machine was so busy that PM2 did not wait for its agent (7 s)."""
        deadline = time.monotonic() + COMMAND_SECONDS
        while True:
            linked = self.pm2("link", secret_id, public_id, self.name)
            gave_up = "retrying in background" in linked.stdout + linked.stderr
            if not gave_up or time.monotonic() > deadline:
                return linked

    def sell(self, name: str, numbers: range, seconds: float = 30.0) -> None:
        """Have the application emit an event of this name for each number."""
        url = f"http://127.0.0.1:{self.shop_port}/?name={name}&from={numbers.start}&until={numbers.stop}"
        deadline = time.monotonic() + seconds
        while True:
            try:
                with urllib.request.urlopen(url, timeout=10):
                    return
            except OSError:
                assert time.monotonic() < deadline, "the application does not listen"
                time.sleep(0.1)

    def log(self) -> str:
        """What the agent has said."""
        path = self.home / "agent.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def end(self) -> None:
        """Kill what runs here, again until nothing does: the agent starts a daemon that is gone anew."""
        deadline = time.monotonic() + END_SECONDS
        while running := self._process_ids():
            assert time.monotonic() < deadline, f"PM2 does not end: {running}"
            for process_id in running:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process_id, signal.SIGKILL)
            time.sleep(0.1)

    def _process_ids(self) -> list[int]:
        mark = f"PM2_HOME={self.home}".encode()
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            # One that is gone, or that waits to be reaped, has none.
            with contextlib.suppress(OSError):
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
        return found

    def _environment(self) -> dict[str, str]:
        ours = {
            name: value
            for name, value in environment().items()
            if not name.startswith(("PM2_", "KEYMETRICS_", "NODE_ENV"))
        }
        return ours | {
            "PM2_HOME": str(self.home),
            "PM2_DISABLE_VERSION_CHECK": "true",
            "KEYMETRICS_NODE": self.gateway,
            "NODE_OPTIONS": f'--require "{PROGRAMS / "lookups.js"}"',
            "NODE_PATH": str(self.modules),
            "SHOP_PORT": str(self.shop_port),
        }


@contextlib.contextmanager
def machine(folder: Path, name: str, gateway: str) -> Iterator[Machine]:
    """A machine whose agent knows this gateway; nothing runs on it yet."""
    home = folder / f"pm2-{name}"
    home.mkdir()
    made = Machine(home, name, gateway, node_folder() / "node_modules", free_port())
    try:
        yield made
    finally:
        made.end()
