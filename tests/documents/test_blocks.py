"""Whatever the documents show, works: every code block is run, or checked as far as it goes without its tool."""

import configparser
import io
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import hcl2
import pytest
from harness import shell
from harness.pages import PAGES, ROOT, Block, blocks, indented_blocks

from mediaflow.settings import SettingsError, load

RUN = {"shell", "python", "toml"}
PARSED = {"hcl", "json", "ini", "yaml"}
PICTURES = {"text", "mermaid"}

RUNNER = """
import ast, asyncio, inspect, json, sys
names = {"__name__": "page"}
for place, line, text in json.load(sys.stdin):
    code = compile("\\n" * (line - 1) + text, place, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    found = eval(code, names)
    if inspect.iscoroutine(found):
        asyncio.run(found)
"""


def run_python(arguments: list[str], folder: Path, **options) -> None:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("MEDIAFLOW_")}
    path = os.pathsep.join([str(ROOT), str(ROOT / "examples")])
    done = subprocess.run(
        [sys.executable, "-W", "error::SyntaxWarning", *arguments],
        cwd=folder,
        env={**inherited, "PYTHONPATH": path, "MEDIAFLOW_REDIS_URL": "memory://page"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
        check=False,
        **options,
    )
    assert done.returncode == 0, done.stdout


def is_a_test(block: Block) -> bool:
    return block.name.startswith("test_")


@pytest.mark.parametrize("page", PAGES)
def test_every_block_says_what_it_is(page: str) -> None:
    assert indented_blocks(page) == [], "put it between fences, with its language"
    for block in blocks(page=page):
        assert block.language in RUN | PARSED | PICTURES, (
            f"{block}: ```{block.language} is not run by any test"
        )


@pytest.mark.parametrize("page", [page for page in PAGES if blocks("python", page=page)])
def test_the_python_of_a_page_runs_from_top_to_bottom(page: str, tmp_path: Path) -> None:
    found = [
        (str(block), block.line, block.text) for block in blocks("python", page=page) if not is_a_test(block)
    ]
    run_python(["-c", RUNNER], tmp_path, input=json.dumps(found))


@pytest.mark.slow
@pytest.mark.parametrize("block", [block for block in blocks("python") if is_a_test(block)], ids=str)
def test_a_test_that_a_page_shows_passes(block: Block, tmp_path: Path) -> None:
    (tmp_path / block.name).write_text(block.text)
    run_python(["-m", "pytest", "-q", "-p", "no:cacheprovider", block.name], tmp_path)


@pytest.mark.parametrize("block", blocks("toml"), ids=str)
def test_a_settings_file_that_a_page_shows_is_accepted(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "mediaflow.toml"
    path.write_text(block.text)
    assert tomllib.loads(block.text)
    try:
        load(config=path)
    except SettingsError as error:
        pytest.fail(f"{block}: {error}")


@pytest.mark.parametrize("block", blocks(*PARSED), ids=str)
def test_what_other_tools_read_is_well_formed(block: Block) -> None:
    match block.language:
        case "hcl":
            assert hcl2.loads(block.text.replace("…", ""))
        case "json":
            assert json.loads(block.text)
        case "ini":
            parser = configparser.ConfigParser(strict=False, interpolation=None)
            parser.read_file(io.StringIO(block.text))
            assert parser.sections()
        case _:
            yaml = pytest.importorskip("yaml")
            assert list(yaml.safe_load_all(block.text))


@pytest.mark.parametrize("block", blocks("shell"), ids=str)
def test_what_a_page_has_people_type_is_shell(block: Block) -> None:
    checked = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, f"{block}: {checked.stderr}"
    for line in shell.lines(block.text):
        assert not line.asks or line.status, (
            f"{block}: say behind {line.command!r} with which status it is answered"
        )


@pytest.mark.slow
@pytest.mark.redis
@pytest.mark.parametrize("block", [block for block in blocks("shell") if shell.lines(block.text)], ids=str)
def test_what_a_page_has_people_type_does_what_it_says(block: Block, tmp_path: Path) -> None:
    if reason := shell.why_not_here():
        if os.environ.get("CI") == "true":
            pytest.fail(f"{reason}, and in CI it has to be there")
        pytest.skip(reason)
    lines = shell.lines(block.text)
    files = {one.name: one.text for one in blocks("python", page=block.page) if one.name}
    outcome = shell.run(lines, files, tmp_path)
    assert outcome.status == 0, f"{block}:\n{outcome.output}"
    assert outcome.statuses == [line.status for line in lines if line.asks], f"{block}:\n{outcome.output}"
    assert "Traceback" not in outcome.output
