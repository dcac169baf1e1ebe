"""What the README tells people to type and to open is there."""

import re
import tomllib
from pathlib import Path

import pytest

from mediaflow.cli.__main__ import group

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
DOCUMENTS = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"]


def commands_in_shell_blocks() -> list[str]:
    blocks = re.findall(r"```shell\n(.*?)```", README, re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def test_one_command_runs_it_and_one_tests_it() -> None:
    run, test = commands_in_shell_blocks()
    assert run == "pip install -e '.[embedded]' && mediaflow up --demo"
    assert test == "pip install -e '.[test]' && pytest"


def test_the_extras_exist_that_are_to_be_installed() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(re.findall(r"\.\[(\w+)\]", README)) <= extras.keys()


def test_the_commands_that_are_listed_are_those_there_are() -> None:
    listed = re.findall(r"^\| `mediaflow (\w+)", README, re.MULTILINE)
    assert sorted(listed) == sorted(group.commands)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_files_exist_that_are_named(document: str) -> None:
    text = (ROOT / document).read_text()
    named = set(re.findall(r"\]\(([\w./]+)\)", text)) | set(
        re.findall(r"`((?:tests|config)/[\w./]+\.\w+)`", text)
    )
    assert {name for name in named if not (ROOT / name).exists()} == set()


def test_the_examples_exist_that_are_listed() -> None:
    table = README.split("In `examples/`:")[1].split("##")[0]
    listed = set(re.findall(r"`(\w+\.(?:py|sh))`", table))
    assert listed == {path.name for path in (ROOT / "examples").iterdir() if path.suffix in {".py", ".sh"}}
