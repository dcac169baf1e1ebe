"""The simulator's subset of Redis does what a real server does, command by command."""

import random

import pytest
import redis
from redis.exceptions import NoScriptError, ResponseError

from mediaflow.testing.server import EPOCH_S, SubsetEngine

KEYS = ("one", "two", "three")
WORDS = ("a", "b", "c", "call/7")
SCORES = ("0", "1", "1.5", "1767226601008321", "-3")
BOUNDS = ("-inf", "+inf", "(1", "1", "1.5", "(1767226601008321")


def command_of(rng: random.Random):
    """Draw a command; its key may hold a value of another type."""
    key, word = rng.choice(KEYS), rng.choice(WORDS)
    score, bound = rng.choice(SCORES), rng.choice(BOUNDS)
    return rng.choice(
        [
            ("HSET", key, word, score, "b", word),
            ("HSETNX", key, word, score),
            ("HGET", key, word),
            ("HMGET", key, "a", "b", "c"),
            ("HGETALL", key),
            ("HLEN", key),
            ("HDEL", key, "a", word),
            ("SADD", key, word, "a"),
            ("SREM", key, word),
            ("SCARD", key),
            ("SMEMBERS", key),
            ("ZADD", key, score, word, "2", "b"),
            ("ZREM", key, word),
            ("ZCARD", key),
            ("ZSCORE", key, word),
            ("ZMSCORE", key, word, "absent"),
            ("ZRANGE", key, 0, -1),
            ("ZRANGE", key, 0, -1, "WITHSCORES"),
            ("ZRANGEBYSCORE", key, "-inf", bound),
            ("ZRANGEBYSCORE", key, bound, "+inf", "WITHSCORES", "LIMIT", 0, 1),
            ("SET", key, word),
            ("GET", key),
            ("DEL", key),
            ("EXISTS", key),
            ("PEXPIRE", key, 100_000),
            ("PEXPIRE", key, 0),
            ("PERSIST", key),
            ("XLEN", key),
            ("XADD", key, "MAXLEN", "~", 1000, "*", "f", word),
        ]
    )


def asked(execute, command):
    """Return a reply, or the first word of the error."""
    try:
        reply = execute(command)
    except ResponseError as error:
        return str(error).split()[0]
    if command[0] == "XADD":
        return "an id"
    return sorted(reply) if command[0] == "SMEMBERS" else reply


@pytest.mark.redis
def test_each_command_is_answered_as_a_real_server_answers_it(redis_server):
    rng = random.Random(4)
    engine = SubsetEngine(lambda: EPOCH_S)
    with redis.Redis(port=redis_server.port, protocol=2) as real:
        real.response_callbacks.clear()
        for number in range(4000):
            if number % 100 == 0:
                engine.restore(None)
                real.flushall()
            command = command_of(rng)
            expected = asked(lambda words: real.execute_command(*words), command)
            assert asked(engine.execute, command) == expected, command


SCRIPT = """
local found = redis.call('HGETALL', KEYS[1])
redis.call('ZADD', KEYS[2], 7, ARGV[1])
return {found, redis.call('ZSCORE', KEYS[2], ARGV[1]), redis.call('HGET', KEYS[1], 'none'), 3.9, true, false}
"""


@pytest.mark.redis
def test_a_script_s_reply_is_converted_as_a_real_server_does(redis_server):
    engine = SubsetEngine(lambda: EPOCH_S)
    with redis.Redis(port=redis_server.port, protocol=2) as real:
        for words in (("HSET", "h", "f", "v"), ("EVAL", SCRIPT, 2, "h", "z", "member")):
            assert engine.execute(words) == real.execute_command(*words)


def test_a_script_that_is_not_known_has_to_be_sent_whole():
    engine = SubsetEngine(lambda: EPOCH_S)
    with pytest.raises(NoScriptError):
        engine.execute(("EVALSHA", "0" * 40, 0))


def test_a_script_that_makes_a_global_variable_is_refused():
    engine = SubsetEngine(lambda: EPOCH_S)
    with pytest.raises(ResponseError, match="global"):
        engine.execute(("EVAL", "leaked = 1", 0))


def test_a_script_that_fails_half_way_keeps_what_it_wrote():
    engine = SubsetEngine(lambda: EPOCH_S)
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        engine.execute(("EVAL", "redis.call('SET', 'k', 'v') redis.call('HSET', 'k', 'f', 'v')", 0))
    assert engine.execute(("GET", "k")) == b"v"
