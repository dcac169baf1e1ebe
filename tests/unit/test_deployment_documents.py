"""Whatever the deployment's files and their page name, be it in a comment, is there: settings, commands, files."""

import re

import pytest
from harness.deployment import CONFIG, ROOT, commands_in, flags_of

from mediaflow.settings import describe, env_name

PAGE = CONFIG / "DEPLOYMENT.md"
FOLDERS = {"docker", "kubernetes", "redis", "systemd"}
FILES = sorted(
    [PAGE, *(path for folder in FOLDERS for path in (CONFIG / folder).rglob("*") if path.is_file())]
)
VARIABLES = {env_name(name) for name in describe()} | {"MEDIAFLOW_CONFIG"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CONFIG)))
def test_every_variable_that_is_named_is_one_that_programs_read(path) -> None:
    named = set(re.findall(r"\bMEDIAFLOW_[A-Z_]*[A-Z]\b", path.read_text()))
    assert named <= VARIABLES


def test_every_command_of_ours_on_the_page_is_understood() -> None:
    found = commands_in(PAGE.read_text())
    assert found
    for words in found:
        flags_of(words)


def test_the_files_exist_that_the_page_names() -> None:
    text = PAGE.read_text()
    linked = {CONFIG / name for name in re.findall(r"\]\(([\w./-]+)\)", text)}
    typed = {ROOT / name for name in re.findall(r"(?<![\w/])(config/[\w./-]*[\w])", text)}
    assert {str(path) for path in linked | typed if not path.exists()} == set()


def test_each_folder_of_the_deployment_is_on_the_page() -> None:
    linked = set(re.findall(r"\]\((\w+)/", PAGE.read_text()))
    assert linked == {*FOLDERS, "aws"}


def test_every_setting_of_redis_says_why_it_is_there() -> None:
    for block in (CONFIG / "redis" / "redis.conf").read_text().split("\n\n"):
        if any(line and not line.startswith("#") for line in block.splitlines()):
            assert block.startswith("# "), f"no reason given: {block}"
