"""Runs our scripts over a :class:`~mediaflow.testing.keyspace.Keyspace`, in the Lua that Redis has (5.1)."""

import hashlib
from collections.abc import Sequence
from typing import Any, cast

from lupa import lua51

from mediaflow.testing.keyspace import Keyspace, Refused, Reply, Status

_SANDBOX = """
function(call)
  redis = {call = call}
  -- As in Redis: a script that reads or makes a global is broken, and shall be found out here.
  setmetatable(_G, {
    __index = function(_, name) error('nonexistent global variable: ' .. tostring(name)) end,
    __newindex = function(_, name) error('a script made a global variable: ' .. tostring(name)) end,
  })
end
"""


class Interpreter:
    """Scripts by their digest, compiled once."""

    def __init__(self, keyspace: Keyspace) -> None:
        """Run scripts on these keys."""
        self._keyspace = keyspace
        make: Any = lua51.LuaRuntime
        self._lua: Any = make(encoding=None, unpack_returned_tuples=True)
        self._globals = self._lua.globals()
        self._globals[b"KEYS"] = self._globals[b"ARGV"] = self._lua.table()
        self._lua.eval(_SANDBOX)(self._call)
        self._scripts: dict[bytes, Any] = {}

    def forget(self) -> None:
        """Know no script any more."""
        self._scripts.clear()

    def knows(self, digest: bytes) -> bool:
        """Tell whether EVALSHA will do."""
        return digest in self._scripts

    def load(self, source: bytes) -> bytes:
        """Compile a script, and return its digest."""
        digest = hashlib.sha1(source, usedforsecurity=False).hexdigest().encode()
        if digest not in self._scripts:
            self._scripts[digest] = self._lua.compile(source)
        return digest

    def run(self, digest: bytes, keys: Sequence[bytes], arguments: Sequence[bytes]) -> Reply:
        """Run a script.

        Raises:
            Refused: It failed; what it had written by then stays.
        """
        self._globals[b"KEYS"] = self._lua.table(*keys)
        self._globals[b"ARGV"] = self._lua.table(*arguments)
        try:
            return _from_lua(self._scripts[digest]())
        except lua51.LuaError as error:
            raise Refused(f"ERR {error}") from error

    def _call(self, command: bytes, *words: Any) -> Any:
        return self._to_lua(self._keyspace.call(command, *map(_word, words)))

    def _to_lua(self, reply: Reply) -> Any:
        if reply is None:
            return False
        if isinstance(reply, list):
            return self._lua.table(*map(self._to_lua, cast("list[Reply]", reply)))
        if isinstance(reply, Status):
            return self._lua.table_from({b"ok": bytes(reply)})
        return reply


def _word(value: Any) -> bytes:
    """Write an argument of ``redis.call`` as Redis does."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, int):
        return b"%d" % value
    if isinstance(value, float):
        return b"%.17g" % value
    raise Refused("ERR Lua redis lib command arguments must be strings or integers")


def _from_lua(value: Any) -> Reply:
    if isinstance(value, bool):
        return 1 if value else None
    if isinstance(value, float):
        return int(value)
    if lua51.lua_type(value) != "table":
        return value
    if value[b"err"] is not None:
        raise Refused(value[b"err"].decode())
    found: list[Reply] = []
    while (item := value[len(found) + 1]) is not None:
        found.append(_from_lua(item))
    return found
