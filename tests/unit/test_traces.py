"""Trace context comes from anybody, lies in Redis, and goes out again: what is malformed goes no further."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediaflow.core.traces import carry, headers

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize("state", ["", "rojo=00f067aa0ba902b7", "a=1,tenant@vendor=b c", "*"[:0]])
def test_what_follows_the_grammar_comes_out_as_it_went_in(state):
    expected = {"traceparent": PARENT} | ({"tracestate": state} if state else {})
    assert headers(carry(PARENT, state)) == expected


@pytest.mark.parametrize(
    "parent",
    [
        "",
        "00",
        PARENT.upper(),
        PARENT + "-more",
        PARENT + "\n",
        "ff" + PARENT[2:],
        "00-" + "0" * 32 + PARENT[35:],
        PARENT[:36] + "0" * 16 + PARENT[52:],
        "cc" + PARENT[2:] + "-" + "x" * 2000,
    ],
)
def test_a_malformed_parent_is_no_parent(parent):
    assert carry(parent, "a=1") == ""


def test_of_a_later_version_what_is_known_is_kept():
    assert carry("cc" + PARENT[2:] + "-what-comes") == "cc" + PARENT[2:]


@pytest.mark.parametrize(
    "state", ["A=1", "a", "a=", "a=b=c", "a=1\r\nx: y", ",".join(["a=1"] * 33), "a=" + "x" * 512]
)
def test_a_malformed_state_costs_the_state_and_not_the_trace(state):
    assert carry(PARENT, state) == PARENT


@given(st.text(max_size=80), st.text(max_size=600))
def test_whatever_is_sent_what_is_carried_is_short_and_fit_for_a_header(parent, state):
    for text in (carry(parent, state), carry(PARENT, state)):
        assert len(text) <= 55 + 1 + 512
        assert re.fullmatch(r"[\x20-\x7e]*", text)


@given(st.text(max_size=700))
def test_what_somebody_else_stored_becomes_no_header_unless_it_is_one(text):
    for value in headers(text).values():
        assert re.fullmatch(r"[\x20-\x7e]+", value)
