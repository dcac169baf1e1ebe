"""The order of siblings is one order: what core decides and what the scripts decide is the same."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lupa import lua51

from mediaflow.core import names
from mediaflow.core.seniority import Standing, precedes
from mediaflow.store.scripts import source

ascii_texts = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=12)
ranks = st.one_of(
    ascii_texts,
    st.builds(names.rank, st.integers(0, 10**15 - 1), st.text("abAB~:@Z-_.", min_size=1, max_size=5)),
)
session_ids = st.one_of(
    ascii_texts,
    st.builds(names.session_id, st.integers(0, 2**48 - 1), st.integers(0, 3), st.integers(0, 3)),
)


@pytest.fixture(scope="module")
def lua_precedes():
    lua = lua51.LuaRuntime(unpack_returned_tuples=True)
    return lua.execute(source("_seniority") + "\nreturn precedes")


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_core_and_scripts_name_the_same_senior(lua_precedes, data):
    one_rank = data.draw(ranks)
    one = Standing(one_rank, data.draw(session_ids))
    other = Standing(data.draw(st.one_of(st.just(one_rank), ranks)), data.draw(session_ids))
    assert lua_precedes(*one, *other) == precedes(one, other)
    assert lua_precedes(*other, *one) == precedes(other, one)


@pytest.mark.parametrize(
    ("senior", "junior"),
    [
        (("a", "x"), ("b", "a")),
        (("A", "x"), ("a", "x")),
        (("ab", "x"), ("abc", "x")),
        (("", "x"), (" ", "x")),
        (("same", "1"), ("same", "10")),
        (("Z", "x"), ("_", "x")),
    ],
)
def test_bytes_are_compared_whatever_the_locale(lua_precedes, senior, junior):
    assert lua_precedes(*senior, *junior) is True
    assert lua_precedes(*junior, *senior) is False
