"""The link to a real server: what goes over its one connection."""

import pytest
import redis.asyncio as aioredis

from mediaflow.store.link import Call, KeptCall, Server, words
from mediaflow.store.pipe import pack
from mediaflow.store.scripts import load
from mediaflow.store.single import PipedLink

SCRIPT = load("renew_held")


class Written:
    """Stands for the connection, and keeps what was to be written."""

    def __init__(self) -> None:
        self.commands: list[list[object]] = []

    async def ask(self, commands, timeout_s):
        self.commands.append(commands)
        return [b"1"] * len(commands)


@pytest.fixture
async def link():
    made = PipedLink(aioredis.Redis(), Server())
    made.server.seen("", "first", "7.0.0")
    made._pipe = Written()
    return made


@pytest.mark.parametrize("kind", [Call, KeptCall])
async def test_a_call_goes_out_as_the_script_of_the_servers_version_with_its_keys_and_arguments(link, kind):
    call = kind(SCRIPT, ["key"], ["word", b"bytes", 7])
    for version in ("7.0.0", "6.2.0", "7.0.0"):
        link.server.seen("", version, version)
        assert await link.run_many([call, call]) == [b"1", b"1"]
        expected = words("EVALSHA", call, flags=version == "7.0.0")
        written = [one if isinstance(one, bytes) else pack(one) for one in link._pipe.commands.pop()]
        assert written == [pack(expected)] * 2


async def test_a_call_that_is_asked_again_and_again_is_packed_once(link):
    call = KeptCall(SCRIPT, ["key"], ["word"])
    await link.run_many([call])
    await link.run_many([call])
    (first,), (second,) = link._pipe.commands
    assert first is second
