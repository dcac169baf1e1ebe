"""The reference of the Python API can be made, holds all that is public, and says what each thing means."""

import inspect
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from reference import build

import mediaflow

PUBLIC = [name for name in mediaflow.__all__ if name != "__version__"]


def members(found: type) -> Iterator[tuple[str, Any]]:
    """Yield a class's own public functions and properties."""
    for name, member in vars(found).items():
        if not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, property)):
            yield f"{found.__name__}.{name}", member


def test_the_pages_can_be_made_and_hold_every_public_name(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        page = build(tmp_path).read_text()
    shown = set(re.findall(r'id="([\w.]+)"', page))
    wanted = {*PUBLIC, *(name for public in PUBLIC for name, _ in members(getattr(mediaflow, public)))}
    assert wanted - shown == set()
    assert not (tmp_path / "mediaflow" / "runtime").exists(), "what is not exported is not public"


@pytest.mark.parametrize("name", PUBLIC)
def test_what_is_public_says_what_it_means(name: str) -> None:
    found = getattr(mediaflow, name)
    assert found.__doc__, f"{name} has no docstring"
    for about, member in members(found):
        assert inspect.getdoc(member), f"{about} has no docstring"


@pytest.mark.parametrize("name", PUBLIC)
def test_every_parameter_and_attribute_of_what_is_public_is_told_of(name: str) -> None:
    found = getattr(mediaflow, name)
    for about, member in members(found):
        if inspect.isfunction(member):
            parameters = [one for one in inspect.signature(member).parameters if one != "self"]
            untold = [one for one in parameters if one not in (inspect.getdoc(member) or "")]
            assert len(parameters) < 2 or not untold, f"{about} does not say what {untold} are"
