"""The pages at the root and those of docs/ name nothing that is not there."""

import re
from pathlib import Path

import pytest

from deploy import reference
from deploy.cli.app import app, keys
from deploy.local.settings import LocalSettings

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
# Of the environment, and of no setting.
OTHER_VARIABLES = {"WEIR_HOME", "WEIR_TEST_DATABASE_DSN", "WEIR_TEST_KAFKA_BOOTSTRAP"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_files_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))
    broken = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_and_settings_that_a_page_names_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    files = re.findall(r"`((?:schema|ingest|query|api|deploy|tests|docs)/[\w./-]+)", text)
    assert [file for file in files if not (ROOT / file).exists()] == []
    settings = {
        line.split("`")[1] for line in reference.settings_page().splitlines() if line.startswith("| `")
    }
    named = set(re.findall(r"\bWEIR_[A-Z_]*[A-Z]\b(?!_)", text))
    assert named - settings - OTHER_VARIABLES == set()


def test_the_page_of_the_command_names_every_command() -> None:
    page = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
    for command in app.registered_commands:
        assert command.callback is not None
        assert f"`weir {command.callback.__name__}" in page or f"`{command.callback.__name__}`" in page
    for command in keys.registered_commands:
        assert f"`weir key {command.name}" in page


def test_the_page_of_the_command_has_the_ports_of_the_code() -> None:
    page = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
    for name, setting in LocalSettings.model_fields.items():
        if name.endswith("_port"):
            line = next(line for line in page.splitlines() if f"`WEIR_{name.upper()}`" in line)
            assert str(setting.default) in line


def test_the_readme_begins_with_one_sentence_and_the_two_commands() -> None:
    first_screen = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:30]
    assert first_screen[2].startswith("**")
    assert any(line.startswith("make run") for line in first_screen)
    assert any(line.startswith("make test") for line in first_screen)
