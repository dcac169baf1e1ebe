"""Placing a call over HTTP: the short way and the usual one say the same, and what leaves a doubt takes the latter."""

import asyncio
import json

import pytest
from harness.surfaces import client_of, own_settings
from harness.wire import parse

from mediaflow.store import StoreUnavailable
from mediaflow.web import placing
from mediaflow.web.connections import HAS_SHORT_WAY
from mediaflow.web.express import Answer
from mediaflow.web.problems import unavailable
from mediaflow.web.surface import Surface

pytestmark = pytest.mark.skipif(not HAS_SHORT_WAY, reason="the aiohttp that is installed goes the usual way")

TOKEN = "secret-token"
BEARER = f"Authorization: Bearer {TOKEN}"


class Placed:
    """Answers with what it was asked, or as the name of the call says."""

    def __init__(self) -> None:
        self.asked: list[object] = []

    async def place(self, head, metadata):
        self.asked.append((head, metadata))
        match head.call_id:
            case "away":
                raise StoreUnavailable("Redis did not answer")
            case "full":
                raise unavailable("no free slot")
            case "odd":
                raise LookupError("only this program knows this")
            case "broken":
                raise RuntimeError("nobody foresaw this")
        told = {"call": head.call_id, "key": head.idempotency_key, "account": head.account}
        return Answer(201, {"Content-Type": "application/json"}, json.dumps(told).encode() + metadata.encoded)


def face_of(placed: Placed, token: str = "") -> Surface:
    def translate(error):
        return unavailable("translated") if isinstance(error, LookupError) else None

    face = Surface("worker", own_settings(api_token=token), lambda: "", translate)
    placing.add_route(face, placed.place)
    return face


def request(path: str, body: bytes = b"", *lines: str) -> bytes:
    head = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *lines]
    return "\r\n".join([*head, "", ""]).encode() + body


async def answered(client, sent: bytes):
    reader, writer = await asyncio.open_connection(client.host, client.port)
    received = b""
    async with asyncio.timeout(10):
        writer.write(sent)
        while not (answers := parse(received)):
            received += await reader.read(65536)
    writer.close()
    (answer,) = answers
    return answer


def went_short(answer) -> bool:
    return "server" not in answer.headers


CASES = {
    "plainly": request("/calls/one"),
    "with a body": request("/calls/one", b'{ "room": 7 }', "Content-Type: application/json"),
    "under a key": request("/calls/one", b"{}", "Idempotency-Key: k1"),
    "for an account": request("/calls/one", b"", "Mediaflow-Account: gr%C3%BCn"),
    "body is no JSON": request("/calls/one", b"{"),
    "body is no object": request("/calls/one", b"[1]"),
    "two keys": request("/calls/one", b"", "Idempotency-Key: a", "Idempotency-Key: b"),
    "illegal key": request("/calls/one", b"", "Idempotency-Key: a b"),
    "illegal account": request("/calls/one", b"", "Mediaflow-Account: %00"),
    "broken account": request("/calls/one", b"", "Mediaflow-Account: %zz"),
    "store away": request("/calls/away"),
    "no slot": request("/calls/full"),
    "what one program knows": request("/calls/odd"),
    "unforeseen": request("/calls/broken"),
}


@pytest.mark.parametrize("sent", CASES.values(), ids=CASES)
async def test_the_short_way_and_the_usual_one_give_the_same_answer_to_the_same_request(sent):
    placed = Placed()
    face = face_of(placed)
    async with client_of(face.application()) as client:
        short = await answered(client, sent)
        usual = await answered(client, sent.replace(b"Host: x", b"Host: x\r\nConnection: close"))
    assert (went_short(short), went_short(usual)) == (True, False)
    assert (short.status, short.body) == (usual.status, usual.body)
    ours = ("content-type", "retry-after", "content-length")
    assert [short.headers.get(name) for name in ours] == [usual.headers.get(name) for name in ours]
    assert placed.asked[::2] == placed.asked[1::2]
    counted = f'route="/calls/{{call_id}}",status="{short.status}"'
    counts = [
        line
        for line in face.metrics.exposition().decode().splitlines()
        if counted in line and "_count" in line
    ]
    assert [line.rpartition(" ")[2] for line in counts] == ["2.0"]


DOUBTS = {
    "percent-encoded": (request("/calls/%6Fne"), 201),
    "a query": (request("/calls/one?x=1"), 201),
    "an illegal name": (request("/calls/o%20ne"), 400),
    "two dots": (request("/calls/.."), 400),
    "no name": (request("/calls/"), 404),
    "further down": (request("/calls/one/two"), 404),
    "a trace": (request("/calls/one", b"", f"traceparent: 00-{'1' * 32}-{'2' * 16}-01"), 201),
    "a page of another origin": (request("/calls/one", b"", "Origin: http://elsewhere"), 403),
    "a page that a browser names": (request("/calls/one", b"", "Sec-Fetch-Site: cross-site"), 403),
}


@pytest.mark.parametrize(("sent", "status"), DOUBTS.values(), ids=DOUBTS)
async def test_what_leaves_a_question_open_goes_the_usual_way(sent, status):
    async with client_of(face_of(Placed()).application()) as client:
        answer = await answered(client, sent)
    assert (answer.status, went_short(answer)) == (status, False)


@pytest.mark.parametrize(
    ("lines", "status", "short"),
    [
        ([BEARER], 201, True),
        ([BEARER.lower()], 201, True),
        ([BEARER, "Origin: http://elsewhere"], 201, True),
        ([], 401, False),
        ([BEARER + "x"], 401, False),
        (["Authorization: Basic x"], 401, False),
    ],
)
async def test_without_the_token_nothing_is_placed_by_either_way(lines, status, short):
    placed = Placed()
    async with client_of(face_of(placed, TOKEN).application()) as client:
        answer = await answered(client, request("/calls/one", b"", *lines))
    assert (answer.status, went_short(answer)) == (status, short)
    assert len(placed.asked) == (status == 201)
