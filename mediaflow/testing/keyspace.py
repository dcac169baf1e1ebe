"""The part of Redis that our scripts use, as plain Python: one step of a script costs microseconds.

fakeredis is whole and slow: under it, thousands of schedules would take hours. This is small and fast, and what
it does is held against fakeredis and a real server by tests: the same commands, the same histories.

Values are as Redis has them: hashes, sorted sets, sets, strings and streams, with an expiry for each key.
"""

from collections.abc import Callable, Sequence
from typing import Any

Reply = Any
"""bytes, int, None, a list of these, or :class:`Status`."""


class Refused(Exception):
    """What Redis answers to a command that it does not carry out."""


class Status(bytes):
    """A simple string, such as OK."""


class Hash(dict[bytes, bytes]):
    """A hash; fields in the order in which they came."""


class SortedSet(dict[bytes, float]):
    """A sorted set: members and their scores."""

    def ordered(self) -> list[tuple[float, bytes]]:
        """Return (score, member) by score, then by member."""
        return sorted((score, member) for member, score in self.items())


class Members(dict[bytes, None]):
    """A set."""


class String(bytes):
    """A string."""


class Stream(list[tuple[tuple[int, int], list[bytes]]]):
    """A stream: (ms, sequence) and the flat fields of each entry. ``last`` outlives what is trimmed."""

    last = (0, 0)


_COMMANDS = frozenset(
    f"_{name}"
    for line in (
        "time publish exists del pexpire persist pttl get set",
        "hset hsetnx hget hmget hgetall hlen hdel sadd srem scard smembers",
        "zadd zrem zcard zscore zmscore zrange zrangebyscore xadd xlen xrange xrevrange",
    )
    for name in line.split()
)

WRONG_TYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"


def number(score: float) -> bytes:
    """Write a double as Redis does."""
    return b"%d" % score if score == int(score) and abs(score) < 1e17 else b"%.17g" % score


class Keyspace:
    """Keys, their values, and the commands on them. ``wall_ms`` is what its clock says."""

    def __init__(self, wall_s: Callable[[], float]) -> None:
        """Begin with no key."""
        self._wall_s = wall_s
        self.values: dict[bytes, Any] = {}
        self.expiries: dict[bytes, int] = {}
        self.published: list[tuple[bytes, bytes]] = []
        self._commands: dict[bytes, Callable[..., Reply]] = {
            name[1:].upper().encode(): getattr(self, name) for name in dir(self) if name in _COMMANDS
        }

    def call(self, command: bytes, *words: bytes) -> Reply:
        """Carry out one command.

        Raises:
            Refused: It cannot be carried out; nothing was changed.
        """
        carry_out = self._commands.get(command.upper())
        if carry_out is None:
            raise Refused(f"ERR unknown command {command.decode()!r}")
        return carry_out(*words)

    def wall_ms(self) -> int:
        """Return milliseconds since the epoch."""
        return int(self._wall_s() * 1000)

    # -- keys ---------------------------------------------------------------------------------

    def _find(self, key: bytes, kind: type[Any]) -> Any:
        """Return the value of a key, None if there is none."""
        expires_ms = self.expiries.get(key)
        if expires_ms is not None and expires_ms <= self.wall_ms():
            self._drop(key)
        value = self.values.get(key)
        if value is not None and type(value) is not kind:
            raise Refused(WRONG_TYPE)
        return value

    def _make(self, key: bytes, kind: type[Any]) -> Any:
        value = self._find(key, kind)
        if value is None:
            value = self.values[key] = kind()
        return value

    def _drop(self, key: bytes) -> None:
        self.values.pop(key, None)
        self.expiries.pop(key, None)

    def all_keys(self) -> list[bytes]:
        """Return all keys that have not expired."""
        now_ms = self.wall_ms()
        return sorted(key for key in self.values if self.expiries.get(key, now_ms + 1) > now_ms)

    def _exists(self, key: bytes) -> int:
        return int(key in self.values and self.expiries.get(key, self.wall_ms() + 1) > self.wall_ms())

    def _del(self, *keys: bytes) -> int:
        found = sum(self._exists(key) for key in keys)
        for key in keys:
            self._drop(key)
        return found

    def _pexpire(self, key: bytes, ms: bytes) -> int:
        if not self._exists(key):
            return 0
        if int(ms) <= 0:
            self._drop(key)
        else:
            self.expiries[key] = self.wall_ms() + int(ms)
        return 1

    def _persist(self, key: bytes) -> int:
        return int(bool(self._exists(key)) and self.expiries.pop(key, None) is not None)

    def _pttl(self, key: bytes) -> int:
        if not self._exists(key):
            return -2
        return self.expiries[key] - self.wall_ms() if key in self.expiries else -1

    def _time(self) -> list[bytes]:
        now_us = round(self._wall_s() * 1_000_000)
        return [b"%d" % (now_us // 1_000_000), b"%d" % (now_us % 1_000_000)]

    def _get(self, key: bytes) -> bytes | None:
        value = self._find(key, String)
        return None if value is None else bytes(value)

    def _set(self, key: bytes, value: bytes, *_: bytes) -> Status:
        self._drop(key)
        self.values[key] = String(value)
        return Status(b"OK")

    # -- hashes -------------------------------------------------------------------------------

    def _hash(self, key: bytes) -> Hash:
        return self._find(key, Hash) or Hash()

    def _hset(self, key: bytes, *words: bytes) -> int:
        _in_pairs(words)
        found = self._make(key, Hash)
        before = len(found)
        found.update(zip(words[::2], words[1::2], strict=True))
        return len(found) - before

    def _hsetnx(self, key: bytes, field: bytes, value: bytes) -> int:
        found = self._make(key, Hash)
        if field in found:
            return 0
        found[field] = value
        return 1

    def _hget(self, key: bytes, field: bytes) -> bytes | None:
        return self._hash(key).get(field)

    def _hmget(self, key: bytes, *fields: bytes) -> list[bytes | None]:
        found = self._hash(key)
        return [found.get(field) for field in fields]

    def _hgetall(self, key: bytes) -> list[bytes]:
        return [word for pair in self._hash(key).items() for word in pair]

    def _hlen(self, key: bytes) -> int:
        return len(self._find(key, Hash) or ())

    def _hdel(self, key: bytes, *fields: bytes) -> int:
        return self._take_out(key, Hash, fields)

    def _take_out(self, key: bytes, kind: type[Any], names: Sequence[bytes]) -> int:
        found = self._find(key, kind)
        if found is None:
            return 0
        before = len(found)
        for name in names:
            found.pop(name, None)
        taken = before - len(found)
        if not found:
            self._drop(key)
        return taken

    # -- sets ---------------------------------------------------------------------------------

    def _sadd(self, key: bytes, *members: bytes) -> int:
        found = self._make(key, Members)
        before = len(found)
        found.update(dict.fromkeys(members))
        return len(found) - before

    def _srem(self, key: bytes, *members: bytes) -> int:
        return self._take_out(key, Members, members)

    def _scard(self, key: bytes) -> int:
        return len(self._find(key, Members) or ())

    def _smembers(self, key: bytes) -> list[bytes]:
        return sorted(self._find(key, Members) or ())

    # -- sorted sets --------------------------------------------------------------------------

    def _zadd(self, key: bytes, *words: bytes) -> int:
        _in_pairs(words)
        scores = [_score(word) for word in words[::2]]
        found = self._make(key, SortedSet)
        before = len(found)
        found.update(zip(words[1::2], scores, strict=True))
        return len(found) - before

    def _zrem(self, key: bytes, *members: bytes) -> int:
        return self._take_out(key, SortedSet, members)

    def _zcard(self, key: bytes) -> int:
        return len(self._find(key, SortedSet) or ())

    def _zscore(self, key: bytes, member: bytes) -> bytes | None:
        found: SortedSet | None = self._find(key, SortedSet)
        return number(found[member]) if found and member in found else None

    def _zmscore(self, key: bytes, *members: bytes) -> list[bytes | None]:
        return [self._zscore(key, member) for member in members]

    def _zrange(self, key: bytes, first: bytes, last: bytes, *options: bytes) -> list[bytes]:
        ordered = self._make_ordered(key)
        end = int(last) + 1 or len(ordered)
        return _shown(ordered[int(first) : end], with_scores=b"WITHSCORES" in options)

    def _zrangebyscore(self, key: bytes, least: bytes, most: bytes, *options: bytes) -> list[bytes]:
        from_, to = _bound(least), _bound(most)
        found = [one for one in self._make_ordered(key) if from_[0] <= one[0] <= to[0]]
        found = [
            one for one in found if not ((from_[1] and one[0] == from_[0]) or (to[1] and one[0] == to[0]))
        ]
        if b"LIMIT" in options:
            at = options.index(b"LIMIT")
            skip, count = int(options[at + 1]), int(options[at + 2])
            found = found[skip : skip + count] if count >= 0 else found[skip:]
        return _shown(found, with_scores=b"WITHSCORES" in options)

    def _make_ordered(self, key: bytes) -> list[tuple[float, bytes]]:
        found = self._find(key, SortedSet)
        return found.ordered() if found else []

    # -- streams ------------------------------------------------------------------------------

    def _xadd(self, key: bytes, *words: bytes) -> bytes:
        at = words.index(b"*")
        found = self._make(key, Stream)
        found.last = max((self.wall_ms(), 0), (found.last[0], found.last[1] + 1))
        found.append((found.last, list(words[at + 1 :])))
        if words[0] == b"MAXLEN":
            longest = int(words[at - 1])
            # Redis trims whole nodes of a hundred entries with ~; so do we, so that nobody relies on less.
            if len(found) >= longest + 100:
                del found[:100]
        return b"%d-%d" % found.last

    def _xlen(self, key: bytes) -> int:
        return len(self._find(key, Stream) or ())

    def _xrange(self, key: bytes, first: bytes, last: bytes, *options: bytes) -> list[Any]:
        return self._entries(key, first, last, options)

    def _xrevrange(self, key: bytes, last: bytes, first: bytes, *options: bytes) -> list[Any]:
        count = int(options[1]) if options else None
        return self._entries(key, first, last, ())[::-1][:count]

    def _entries(self, key: bytes, first: bytes, last: bytes, options: Sequence[bytes]) -> list[Any]:
        least, exclusive = _entry_id(first, 0)
        most, _ = _entry_id(last, 1 << 64)
        count = int(options[1]) if options else None
        found = [
            [b"%d-%d" % entry, fields]
            for entry, fields in self._find(key, Stream) or ()
            if least <= entry <= most and not (exclusive and entry == least)
        ]
        return found[:count]

    # -- messages -----------------------------------------------------------------------------

    def _publish(self, channel: bytes, message: bytes) -> int:
        self.published.append((channel, message))
        return 0


def _in_pairs(words: Sequence[bytes]) -> None:
    if not words or len(words) % 2:
        raise Refused("ERR wrong number of arguments")


def _score(word: bytes) -> float:
    try:
        return float(word)
    except ValueError:
        raise Refused("ERR value is not a valid float") from None


def _bound(word: bytes) -> tuple[float, bool]:
    """Read a bound on scores: the score, and whether it is left out itself."""
    return (_score(word[1:]), True) if word.startswith(b"(") else (_score(word), False)


def _shown(found: Sequence[tuple[float, bytes]], *, with_scores: bool) -> list[bytes]:
    if not with_scores:
        return [member for _, member in found]
    return [word for score, member in found for word in (member, number(score))]


def _entry_id(word: bytes, default_sequence: int) -> tuple[tuple[int, int], bool]:
    exclusive = word.startswith(b"(")
    word = word.removeprefix(b"(")
    if word == b"-":
        return (0, 0), False
    if word == b"+":
        return (1 << 64, 0), False
    ms, _, sequence = word.partition(b"-")
    return (int(ms), int(sequence) if sequence else default_sequence), exclusive
