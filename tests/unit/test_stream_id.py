"""Stream ids: a made-up one is told from one that is gone, and one that was issued is always known again."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediaflow.limiter.stream_id import MAX_ID_LENGTH, StreamFacts, fits, issue, read, unverified

SECRET, OTHER = b"s" * 32, b"o" * 32
FACTS = StreamFacts("key", "device", 1_800_000_000_123, {"a": "1", "b": "2"}, '{"title":"x"}')
ID = issue(SECRET, "user", FACTS)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=256)


@given(user=texts, device=texts, attributes=st.dictionaries(texts, texts, max_size=3), metadata=texts)
def test_an_id_says_what_was_issued(user, device, attributes, metadata):
    facts = StreamFacts("key", device, 1, attributes, metadata)
    stream_id = issue(SECRET, user, facts)
    assert fits(facts) == (len(stream_id) <= MAX_ID_LENGTH)
    if not fits(facts):
        return
    found = read((SECRET,), user, stream_id)
    assert found is not None
    assert found == facts._replace(metadata=found.metadata)
    assert found.metadata in (metadata, "{}")
    assert issue(SECRET, user, found) == stream_id, "the next heartbeat gets the same id"
    assert stream_id.replace("-", "").replace("_", "").replace(".", "").isalnum(), "it fits into a URL"


@pytest.mark.parametrize("device", ["d" * 256, '"' * 256, "😀" * 256])
@pytest.mark.parametrize("filling", ["x", '"', "\\", "é", "😀", "\x01"])
def test_the_largest_device_and_any_metadata_give_an_id_that_is_known_again(device, filling):
    for length in (0, 100, 300, 500, 600, 601, 16_000):
        facts = FACTS._replace(device_id=device, metadata=filling * length)
        assert fits(facts)
        assert read((SECRET,), "user", issue(SECRET, "user", facts)) is not None


def test_attributes_that_no_id_can_carry_are_told():
    assert not fits(FACTS._replace(attributes={"channel": "x" * MAX_ID_LENGTH}))


def test_the_order_of_attributes_is_no_part_of_an_id():
    assert issue(SECRET, "user", FACTS._replace(attributes={"b": "2", "a": "1"})) == ID


def test_an_id_is_the_users_alone():
    assert read((SECRET,), "user", ID) == FACTS
    for user in ("use", "user ", "User", "", "user\x00", "usér"):
        assert read((SECRET,), user, ID) is None


def test_a_user_and_a_payload_are_never_confused():
    """A signature over both run together would let the end of a user id pass for the start of a payload."""
    payload = base64.urlsafe_b64decode(ID.split(".")[0] + "==")
    assert read((SECRET,), "user" + payload[:3].decode(), ID) is None


def test_any_of_the_known_secrets_will_do_and_no_other():
    assert read((OTHER, SECRET), "user", ID) == FACTS
    assert read((OTHER,), "user", ID) is None
    assert read((), "user", ID) is None


def test_no_changed_character_goes_unnoticed():
    for index, character in enumerate(ID):
        changed = ID[:index] + ("A" if character != "A" else "B") + ID[index + 1 :]
        assert read((SECRET,), "user", changed) is None, index


@pytest.mark.parametrize(
    "made_up",
    [
        "",
        ".",
        "..",
        "x",
        "é",
        "a.b",
        ID + "=",
        ID + "A",
        "=" + ID,
        ID + ".",
        f" {ID}",
        ID.split(".")[0],
        "A" * 5000,
    ],
)
def test_what_was_never_issued_is_unknown(made_up):
    assert read((SECRET,), "user", made_up) is None


@given(
    st.text(max_size=60) | st.binary(max_size=60).map(lambda data: base64.urlsafe_b64encode(data).decode())
)
def test_garbage_is_unknown_and_nothing_worse(text):
    assert read((SECRET,), "user", text) is None
    assert unverified(text) is None or isinstance(unverified(text), StreamFacts)


def test_an_id_can_be_read_while_no_key_is_known():
    assert unverified(ID) == FACTS
    assert unverified(ID.split(".")[0]) == FACTS
    assert unverified("made up") is None
