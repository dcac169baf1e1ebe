"""Bodies and keys: what is taken, and what is refused with the place where it went wrong."""

import pytest
from aiohttp import web
from harness.surfaces import client_of

from mediaflow.core.names import IllegalName
from mediaflow.web import bodies, problems


@pytest.fixture
async def client():
    async def echo(request: web.Request) -> web.Response:
        key = bodies.sole_key(request.headers.getall("Idempotency-Key", ()))
        found = await bodies.read_metadata(request)
        return web.json_response({"encoded": found.encoded.decode(), "digest": found.digest, "key": key})

    app = web.Application(middlewares=[problems.middleware()])
    app.router.add_post("/", echo)
    async with client_of(app) as opened:
        yield opened


def test_no_body_is_an_empty_object():
    assert bodies.parse_metadata(b"").encoded == b"{}"
    assert bodies.parse_metadata(b" \n").digest == bodies.parse_metadata(b"{}").digest


def nested(levels: int) -> bytes:
    return b'{"x":' * (levels - 1) + b"[]" + b"}" * (levels - 1)


def test_what_is_nested_deeper_than_every_python_can_parse_is_refused_by_all_of_them():
    assert bodies.parse_metadata(nested(bodies.MAX_LEVELS)).encoded == nested(bodies.MAX_LEVELS)
    for levels in (bodies.MAX_LEVELS + 1, 10_000):
        with pytest.raises(problems.Refusal, match="at most"):
            bodies.parse_metadata(nested(levels))


def test_the_digest_looks_at_the_meaning_and_not_at_the_spelling():
    one = bodies.parse_metadata(b'{"a": 1, "b": {"d": "\\u00e9", "c": [1, 2]}}')
    same = bodies.parse_metadata('{"b":{"c":[1,2],"d":"é"},"a":1}'.encode())
    other = bodies.parse_metadata(b'{"a": 1, "b": {"d": "e", "c": [2, 1]}}')
    assert one.digest == same.digest
    assert one.digest != other.digest
    assert one.encoded == '{"a":1,"b":{"d":"é","c":[1,2]}}'.encode()


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b'{"a": NaN}', "byte 6"),
        (b'{"a": 1e999}', "range"),
        (b'{"a": 1', "truncated"),
        (b'{"a": 1} x', "byte 10"),
        (b'{"a": "\xff"}', "byte 7"),
        (b"[1]", "array"),
        (b"7", "number"),
        (b"null", "null"),
        (b"true", "boolean"),
        (b'"text"', "string"),
        (b'{"a":' * 6000, "the body is n"),
        (b'{"a": "\\ud800"}', "not JSON"),
        (b'{"a": ' + b"9" * 20000 + b"}", "not JSON"),
    ],
)
async def test_what_is_no_json_object_is_a_400_that_says_where(client, body, told):
    answer = await client.post("/", data=body)
    assert answer.status == 400
    assert told in (await answer.json())["detail"]


async def test_64_kib_are_taken_and_a_byte_more_is_413(client):
    room = bodies.MAX_BODY_BYTES - len('{"a":""}')
    answer = await client.post("/", data=b'{"a":"' + b"x" * room + b'"}')
    assert answer.status == 200
    answer = await client.post("/", data=b'{"a":"' + b"x" * (room + 1) + b'"}')
    assert answer.status == 413
    assert "65536" in (await answer.json())["detail"]


async def test_a_long_body_without_a_length_is_413_too(client):
    async def drops():
        for _ in range(65):
            yield b" " * 1024

    answer = await client.post("/", data=drops())
    assert answer.status == 413
    assert "too long: 65536 bytes at most" in (await answer.json())["detail"]


async def test_a_good_key_arrives_as_it_is(client):
    answer = await client.post("/", headers={"Idempotency-Key": '"8e03978e-40d5"'})
    assert (await answer.json())["key"] == '"8e03978e-40d5"'


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "naïve"])
async def test_a_key_that_breaks_its_grammar_is_400(client, key):
    answer = await client.post("/", headers={"Idempotency-Key": key})
    assert answer.status == 400
    assert "Idempotency-Key" in (await answer.json())["detail"]


async def test_two_keys_are_400(client):
    from multidict import CIMultiDict

    answer = await client.post("/", headers=CIMultiDict([("Idempotency-Key", "a"), ("Idempotency-Key", "b")]))
    assert answer.status == 400
    assert "2 times" in (await answer.json())["detail"]


def test_illegal_names_are_value_errors_for_embedders():
    assert issubclass(IllegalName, ValueError)
