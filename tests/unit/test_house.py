"""The house keeps its own rules: documented settings and metrics, listed files, borders of the top level."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from deploy import reference

ROOT = Path(__file__).parents[2]
PACKAGES = ("schema", "ingest", "query", "api", "deploy")
# Folders of the tests that hold programs and tools; in the others each file says in its name what it tries.
TOOLS = ("support", "access_matrix", "bench", "chaos", "conformance", "fuzz")


# What tools and servers make, for where git cannot be asked.
MADE = re.compile(
    r"\.git|\.venv|\.weir|__pycache__|.*\.egg-info|build|dist|(bench|chaos)-results"
    r"|\.(mypy|pytest|ruff|import_linter)_cache|\.hypothesis|\.env"
)


@cache
def tracked() -> list[Path]:
    """The files that git tracks; where it cannot be asked (no git, or somebody else's clone) all of them."""
    try:
        asked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return list(present())
    return [ROOT / line for line in asked.stdout.splitlines() if (ROOT / line).is_file()]


def present() -> Iterator[Path]:
    """The files that are there, but for what was made."""
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if not MADE.fullmatch(name)]
        yield from (Path(folder) / name for name in files if not MADE.fullmatch(name))


def test_what_is_there_is_what_git_tracks() -> None:
    """Where git cannot be asked, no rule is let off."""
    assert set(tracked()) <= set(present())


def test_settings_page_is_what_the_code_says() -> None:
    """`python -m deploy.reference` has been run since a setting changed."""
    assert (ROOT / "docs/settings.md").read_text() == reference.settings_page()


def test_metrics_page_is_what_the_code_says() -> None:
    """`python -m deploy.reference` has been run since a metric changed."""
    assert (ROOT / "docs/metrics.md").read_text() == reference.metrics_page()


def test_every_setting_says_what_it_is() -> None:
    """No setting without a description."""
    silent = [
        name
        for group in reference._PROCESSES.values()
        for name, field in group.model_fields.items()
        if not field.description
    ]
    assert not silent


def test_a_setting_of_several_processes_is_one_setting() -> None:
    """Processes that share an environment must not each read something else out of the same variable."""
    meanings: dict[str, set[str]] = {}
    for process, group in reference._PROCESSES.items():
        # For `weir up` an address that is not given means a server that it starts.
        for name, field in group.model_fields.items() if process != "weir up" else ():
            meanings.setdefault(name, set()).add(f"{field.annotation} {field.default!r}")
    assert not {name: found for name, found in meanings.items() if len(found) > 1}


def packages() -> list[Path]:
    """Folders of ours that hold modules."""
    folders = [*(ROOT / name for name in PACKAGES), *(ROOT / "tests" / name for name in TOOLS)]
    return sorted(
        {path.parent for folder in folders for path in folder.rglob("*.py")}
        - {ROOT / "schema/migrations/versions"}
    )


@pytest.mark.parametrize("package", packages(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_package_lists_its_files(package: Path) -> None:
    """Each folder's docstring names every file and folder in it, so that a stranger finds the way."""
    docstring = (package / "__init__.py").read_text()
    inside = [path for path in package.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()]
    missing = [
        p.stem
        for p in inside
        if p.stem not in ("__init__", "__main__") and not re.search(rf"\b{p.stem}\b", docstring)
    ]
    assert not missing


def test_the_top_level_is_what_it_is_said_to_be() -> None:
    """No new folder appears beside the ones that the README explains."""
    folders = {path.relative_to(ROOT).parts[0] for path in tracked() if len(path.relative_to(ROOT).parts) > 1}
    assert folders == {"ingest", "query", "api", "schema", "tests", "deploy", "docs", ".ci"}


def test_no_file_names_a_registry() -> None:
    """Where packages come from is the machine's business."""
    # Each in brackets at one place, so that this file does not name them either.
    hosts = re.compile(
        r"py[p]i\.org|python[h]osted|registry\.npm[j]s|maven[.]org|maven\.apach[e]\.org|deb\.debia[n]\.org"
    )
    named = [str(path) for path in tracked() if hosts.search(path.read_text(errors="ignore"))]
    assert not named
