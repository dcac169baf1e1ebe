"""Names: what is legal, and that the order of ids is the order of time."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediaflow.core import names

LEGAL = "ABCXYZabcxyz0189._~:@+-"
instants_ms = st.integers(0, 2**48 - 1)
ranked_ms = st.integers(0, 10**15 - 1)
instance_ids = st.text(LEGAL, min_size=1, max_size=64)


@given(st.text(LEGAL, min_size=1, max_size=128).filter(lambda text: text not in {".", ".."}))
def test_a_legal_call_id_comes_back_unchanged(call_id: str) -> None:
    assert names.check_call_id(call_id) == call_id


@pytest.mark.parametrize(
    "call_id", ["", ".", "..", "a" * 129, "a b", "a/b", "a%20b", "a\n", "{a}", "ä", "a\x00", "٣", "a,b"]
)
def test_an_illegal_call_id_is_refused_with_what_is_allowed(call_id: str) -> None:
    with pytest.raises(
        names.IllegalName, match=r"use 1 to 128 characters of A-Z a-z 0-9 \. _ ~ : @ \+ -"
    ) as caught:
        names.check_call_id(call_id)
    assert repr(call_id) in str(caught.value)


def test_a_huge_call_id_is_not_repeated_in_full() -> None:
    with pytest.raises(names.IllegalName) as caught:
        names.check_call_id("x" * 100_000)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (names.check_instance_id, ["w", "host:1~a@b+c-d", "i" * 64], ["", "i" * 65, "a b", "a/b", "a\n"]),
        (names.check_namespace, ["mediaflow", "a.b_c-1", "n" * 64], ["", "n" * 65, "a:b", "{a}", "a b"]),
        (names.check_idempotency_key, ["k", '"quoted"', "~!", "k" * 255], ["", "k" * 256, "a b", "a\t", "ä"]),
    ],
)
def test_other_names_are_checked_likewise(
    check: Callable[[str], str], good: list[str], bad: list[str]
) -> None:
    for name in good:
        assert check(name) == name
    for name in bad:
        with pytest.raises(names.IllegalName, match="is not allowed: use 1 to"):
            check(name)


@given(instants_ms, st.integers(0, 1023), st.integers(0, 2**64))
def test_a_session_id_has_its_form(now_ms: int, partition: int, random_bits: int) -> None:
    made = names.session_id(now_ms, partition, random_bits)
    assert names.is_session_id(made)
    assert int(made.split("-")[1], 16) == partition


@given(instants_ms, instants_ms, st.integers(0, 2**40 - 1), st.integers(0, 2**40 - 1))
def test_session_ids_sort_by_time(one_ms: int, other_ms: int, one: int, other: int) -> None:
    if one_ms < other_ms:
        assert names.session_id(one_ms, 7, one) < names.session_id(other_ms, 7, other)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "session",
        "0123456789ab-001-012345678",
        "0123456789AB-001-0123456789",
        "0123456789ab-001-0123456789\n",
    ],
)
def test_other_text_is_no_session_id(text: str) -> None:
    assert not names.is_session_id(text)


@given(ranked_ms, ranked_ms, instance_ids, instance_ids)
def test_ranks_sort_by_start_then_by_name(one_ms: int, other_ms: int, one: str, other: str) -> None:
    ranked = names.rank(one_ms, one).encode() < names.rank(other_ms, other).encode()
    assert ranked == ((one_ms, one.encode()) < (other_ms, other.encode()))
