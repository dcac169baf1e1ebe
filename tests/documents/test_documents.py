"""What the documents tell people to open and to type is there, and what is drawn from the code is up to date."""

import ast
import re
import tomllib

import pytest
from generated import architecture, settings_page
from harness.commands import COMMANDS
from harness.pages import PAGES, ROOT, blocks, read

from mediaflow.core.states import STEPS
from mediaflow.store import scripts

README = read("README.md")
ARCHITECTURE = read("ARCHITECTURE.md")
PACKAGE = ROOT / "mediaflow"
WRITE_ANEW = "python tests/generated.py writes it anew"


def test_one_command_runs_it_and_one_tests_it() -> None:
    run, test = [line for block in blocks("shell", page="README.md")[:2] for line in block.text.splitlines()]
    assert run == "pip install -e '.[embedded]' && mediaflow up --demo"
    assert test == "pip install -e '.[test]' && pytest"


@pytest.mark.parametrize("page", PAGES)
def test_the_extras_exist_that_are_to_be_installed(page: str) -> None:
    extras = tomllib.loads(read("pyproject.toml"))["project"]["optional-dependencies"]
    assert set(re.findall(r"\.\[(\w+)\]", read(page))) <= extras.keys()


def test_the_commands_that_are_listed_are_those_there_are() -> None:
    listed = re.findall(r"^\| `mediaflow (\w+)", README, re.MULTILINE)
    assert sorted(listed) == sorted(COMMANDS)


@pytest.mark.parametrize("page", [*PAGES, "CHANGELOG.md"])
def test_the_files_exist_that_are_named(page: str) -> None:
    text = read(page)
    folder = (ROOT / page).parent
    linked = {name for name in re.findall(r"\]\(([\w./-]+)(?:#[\w-]+)?(?: \"\w+\")?\)", text) if name}
    named = set(re.findall(r"`((?:tests|config|examples)/[\w./-]+\.\w+)`", text))
    assert {name for name in linked if not (folder / name).exists()} == set()
    assert {name for name in named if not (ROOT / name).exists()} == set()


@pytest.mark.parametrize("page", PAGES)
def test_the_headings_exist_that_are_linked_to(page: str) -> None:
    for name, anchor in re.findall(r"\]\(([\w./-]*)#([\w-]+)\)", read(page)):
        text = ((ROOT / page).parent / name).read_text() if name else read(page)
        headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert anchor in anchors, f"{page}: no heading #{anchor} in {name or page}"


def test_the_examples_exist_that_are_listed() -> None:
    table = README.split("In `examples/`:")[1].split("##")[0]
    listed = set(re.findall(r"`(\w+\.(?:py|sh))`", table))
    assert listed == {path.name for path in (ROOT / "examples").iterdir() if path.suffix in {".py", ".sh"}}


def test_every_guarantee_names_tests_that_there_are() -> None:
    rows = dict(re.findall(r"^\| (G\d) \| (.*)$", README, re.MULTILINE))
    assert list(rows) == [f"G{number}" for number in range(1, 10)]
    for guarantee, row in rows.items():
        named = re.findall(r'\]\((tests/[\w/]+\.py) "(\w+)"\)', row)
        assert named, f"{guarantee} names no test"
        for path, function in named:
            defined = {node.name for node in ast.walk(ast.parse(read(path))) if hasattr(node, "name")}
            assert function in defined, f"{guarantee}: {function} is not in {path}"


# -- what is written from the code ---------------------------------------------------------------


def test_the_page_of_settings_is_up_to_date() -> None:
    assert read("config/README.md") == settings_page(), WRITE_ANEW


def test_the_diagram_of_states_is_up_to_date() -> None:
    assert len(blocks("mermaid", page="ARCHITECTURE.md")) == 1
    assert architecture(ARCHITECTURE) == ARCHITECTURE, WRITE_ANEW


# -- ARCHITECTURE.md -----------------------------------------------------------------------------


def section(title: str) -> str:
    return ARCHITECTURE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_every_room_has_its_duty() -> None:
    listed = {name for row in re.findall(r"^\| (`[^|]+) \|", section("Rooms"), re.MULTILINE)
              for name in re.findall(r"`([\w.]+)/?`", row)}  # fmt: skip
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and (path / "__init__.py").exists()}
    modules = {path.name for path in PACKAGE.glob("[a-z]*.py")}
    assert listed == rooms | modules


def test_every_object_is_where_it_is_said_to_be() -> None:
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| `([\w/.]+)` \|$", section("Objects"), re.MULTILINE)
    assert len(rows) > 20
    for name, path in rows:
        tree = ast.parse((PACKAGE / path).read_text())
        assert name in {node.name for node in tree.body if isinstance(node, ast.ClassDef)}, (
            f"{name} in {path}"
        )


def test_the_way_of_a_call_leads_through_files_that_there_are() -> None:
    named = re.findall(
        r"`([\w/]+\.(?:py|lua))`", section("From a POST to your coroutine") + section("A session's states")
    )
    assert named
    assert [path for path in named if not (PACKAGE / path).exists()] == []


def test_every_script_is_told_of() -> None:
    told = set(re.findall(r"`(\w+)`", section("One session's life, script by script") + section("Nouns")))
    unlisted = {name for name in scripts.names() if name not in told} - {"describe"}
    assert unlisted == set()
    assert {step.script for step in STEPS} <= set(scripts.names())
