"""Everything that is fetched is pinned, and the pins name no place and no machine."""

import json
import re
import tomllib
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from deploy.local import versions

ROOT = Path(__file__).parents[2]
REQUIREMENTS = ("requirements.txt", "requirements-dev.txt")


def pinned(path: Path) -> dict[str, str]:
    """Names and versions of a requirements file."""
    return dict(re.findall(r"^([a-z0-9][a-z0-9._-]*)==(\S+)", path.read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.parametrize("name", [*REQUIREMENTS, "requirements-fuzz.txt"])
def test_requirements_name_no_place(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert not re.search(r"https?:|file://|--index-url|--extra-index-url|--find-links|--trusted-host", text)
    assert not re.search(r"(?m)(^|\s)/\w", text), "an absolute path"


@pytest.mark.parametrize("name", REQUIREMENTS)
def test_every_requirement_is_pinned_with_a_hash(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    blocks = re.split(r"(?m)^(?=[a-z0-9])", re.sub(r"(?m)^\s*#.*\n", "", text))
    requirements = [block for block in blocks if block.strip()]
    assert len(requirements) > 20
    for block in requirements:
        assert re.match(r"[a-z0-9._-]+==\S+ \\\n", block), block.splitlines()[0]
        assert "--hash=sha256:" in block, block.splitlines()[0]


def test_both_files_pin_the_same_versions() -> None:
    runtime, everything = (pinned(ROOT / name) for name in REQUIREMENTS)
    assert runtime.items() <= everything.items()


def test_every_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    runtime, everything = (pinned(ROOT / name) for name in REQUIREMENTS)
    for dependency in project["dependencies"]:
        assert re.split(r"[\[<>=]", dependency)[0] in runtime
    for dependency in project["optional-dependencies"]["dev"]:
        assert dependency in everything


def test_npm_packages_are_pinned_by_their_hashes_and_name_no_place() -> None:
    folder = ROOT / "tests/support/node"
    asked = json.loads((folder / "package.json").read_text(encoding="utf-8"))["dependencies"]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in asked.values())
    text = (folder / "package-lock.json").read_text(encoding="utf-8")
    assert "://" not in text
    packages = json.loads(text)["packages"]
    assert packages.pop("")["dependencies"] == asked
    assert [name for name, package in packages.items() if "integrity" not in package] == []
    assert {name: packages[f"node_modules/{name}"]["version"] for name in asked} == asked


def test_the_pom_leaves_its_versions_to_one_place() -> None:
    pom = ET.parse(ROOT / "deploy/local/pom.xml")
    found = {
        dependency.findtext("artifactId", ""): dependency.findtext("version", "")
        for dependency in pom.findall(".//dependency")
    }
    assert found == {"kafka_${scala.series}": "${kafka.version}", "log4j-slf4j-impl": "${log4j.version}"}
    assert re.fullmatch(r"4\.\d+\.\d+", versions.KAFKA_VERSION)
    assert re.fullmatch(r"\d+\.\d+\.\d+", versions.LOG4J_VERSION)
    assert re.fullmatch(r"\d+\.\d+\.\d+", versions.MAVEN_DEPENDENCY_PLUGIN_VERSION)


def test_make_help_lists_every_target() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert phony is not None
    documented = set(re.findall(r"^([a-z-]+):.*## \S", text, re.MULTILINE))
    assert documented == set(phony[1].split())


def test_every_ignored_lint_has_its_reason() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    ignored = [
        line for line in text.splitlines() if re.match(r'\s+"[A-Z]+\d*",', line) and '", "' not in line
    ]
    assert len(ignored) > 15
    assert [line for line in ignored if not re.search(r"# .{8,}", line)] == []
