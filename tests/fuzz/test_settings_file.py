"""Whatever a settings file holds: settings, or a SettingsError in one line that names key and value; nothing else."""

import json
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mediaflow.settings import SECRETS, Settings, SettingsError, describe, load

often = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
NAMES = sorted(describe())

values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.integers(min_value=10**30, max_value=10**40),
        st.floats(),
        st.text(max_size=30),
        st.sampled_from(
            ["", "2", "²", "٣", "nan", "inf", "[", "[1", "a,b", "user", "h:²", "[\udcff", "9" * 5000]
        ),
        st.dates(),
        st.datetimes(),
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def loaded(path: Path | None = None, **flags: Any) -> Settings | str:
    """Return the settings, or why there are none."""
    try:
        return load(flags, {}, path)
    except SettingsError as error:
        message = str(error)
        assert message
        assert "\n" not in message, message
        assert len(message) < 2500, len(message)
        return message


def written(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "settings.toml"
    path.write_bytes(content)
    return path


@often
@given(content=st.binary(max_size=300))
@example(content=b"\xef\xbb\xbfslots = 5")
@example(content=b"slots = 5\x00")
@example(content=b"slots = " + b"9" * 5000)
@example(content=b"slots = " + b"[" * 100_000)
@example(content=b"slots = " + b"{a=" * 100_000)
@example(content=b"[a]\n" * 100_000)
@example(content=b"a" + b".a" * 1000 + b" = 1")
@example(content=b"'" + b"k" * 100_000 + b"' = 1")
@example(content=b"slots = 1\nslots = 2")
@example(content=b"lease_ttl = 1979-05-27T07:32:00Z")
@example(content=b"stream_rules = [{policy = 'a'}, 5]")
def test_any_bytes_are_settings_or_a_line(tmp_path, content):
    loaded(written(tmp_path, content))


@often
@given(name=st.sampled_from(NAMES), value=values)
def test_a_value_of_any_type_is_taken_or_named(name, value):
    told = loaded(**{name: value})
    if isinstance(told, str) and value is not None:
        assert name in told or name.replace("_", "-") in told or name.replace("_", " ") in told, told


@often
@given(name=st.sampled_from(NAMES), value=values)
def test_in_a_file_as_well(tmp_path, name, value):
    try:
        text = f"{name} = {json.dumps(value, ensure_ascii=True, default=str)}"
    except (TypeError, ValueError):
        return
    loaded(written(tmp_path, text.encode(errors="replace")))


@often
@given(found=st.dictionaries(st.sampled_from(NAMES), values, max_size=6))
def test_any_number_of_odd_values_at_once_is_one_line(found):
    loaded(**found)


@often
@given(key=st.text(alphabet=string.printable, min_size=1, max_size=300))
def test_a_key_that_is_none_is_named(tmp_path, key):
    told = loaded(written(tmp_path, f"{json.dumps(key)} = 1".encode()))
    if key not in NAMES and isinstance(told, str) and "not TOML" not in told:
        assert repr(key)[:100] in told


@pytest.mark.parametrize("name", sorted(SECRETS))
@pytest.mark.parametrize("wrap", [lambda text: [text], lambda text: {"a": text}], ids=["list", "table"])
def test_a_secret_of_a_wrong_type_is_not_shown(name, wrap):
    told = loaded(**{name: wrap("redis://:sesame@host")})
    assert isinstance(told, str)
    assert name.replace("_", "-") in told
    assert "sesame" not in told


@pytest.mark.parametrize("token", ["two\nlines", " padded", "padded\t", "\x00", "\udcff"])
def test_a_token_that_no_header_can_carry_is_refused_and_not_shown(token):
    told = loaded(api_token=token)
    assert isinstance(told, str)
    assert "api_token = (hidden)" in told
    assert token not in told


def test_a_long_value_is_cut_short():
    told = loaded(slots="9" * 100_000)
    assert isinstance(told, str)
    assert told.startswith("--slots = '999")
    assert len(told) < 300
