"""The Lua sources: headers that tell the truth, keys that are all declared, no leaked global, no pcall."""

import re
from importlib import resources

import fakeredis
import pytest
from harness.topologies import OneServer
from lupa import lua51

from mediaflow.store import scripts

FILES = {
    file.name.removesuffix(".lua"): file.read_text(encoding="utf-8")
    for file in resources.files("mediaflow.store").joinpath("lua").iterdir()
    if file.name.endswith(".lua")
}
PARTS = sorted(name for name in FILES if name.startswith("_"))
SCRIPTS = sorted(FILES.keys() - set(PARTS))

REDIS_GLOBALS = {
    *(
        "KEYS",
        "ARGV",
        "redis",
        "cjson",
        "string",
        "table",
        "math",
        "unpack",
        "ipairs",
        "pairs",
        "next",
        "type",
    ),
    *(
        "tonumber",
        "tostring",
        "error",
        "assert",
        "select",
        "setmetatable",
        "getmetatable",
        "rawget",
        "rawset",
    ),
}
"""What a script may read that it did not define; redis-server refuses any other name, fakeredis does not."""

FIRST_KEY = re.compile(r"redis\.call\('[A-Z]+',\s*([^,)]+)")
PLANNED_KEY = re.compile(r"\b(?:add|record|remove|let_expire)\('[A-Z]+',\s*([^,)]+)")


def code_of(text: str) -> str:
    """Return a source without its comments; no string of ours holds two dashes."""
    return re.sub(r"--.*", "", text)


def head_of(text: str) -> list[str]:
    lines = text.splitlines()
    end = next((number for number, line in enumerate(lines) if not line.startswith("--")), len(lines))
    return lines[:end]


def field_of(text: str, field: str) -> str:
    """Return a field of a header, with the lines that go on with it."""
    joined = " ".join(line.removeprefix("--") for line in head_of(text))
    found = re.search(rf" {field}: (.*?)(?: [A-Z]{{4,}}: |$)", joined)
    return re.sub(r"\s+", " ", found[1]) if found else ""


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_opens_with_its_purpose_keys_arguments_and_returns(name):
    head = head_of(FILES[name])
    assert re.match(r"-- [A-Z].{10,}", head[0]), "the first line says what it is for"
    fields = [found[1] for line in head if (found := re.match(r"-- ([A-Z]+): \S", line))]
    assert [field for field in fields if field in ("KEYS", "ARGV", "RETURNS")] == ["KEYS", "ARGV", "RETURNS"]
    assert set(fields) <= {"KEYS", "ARGV", "RETURNS", "USES", "FLAGS"}
    assert all(line.startswith("-- ") for line in head)


@pytest.mark.parametrize("name", PARTS)
def test_a_part_opens_with_its_purpose(name):
    assert re.match(r"-- [A-Z].{10,}", FILES[name])


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_parts_that_a_script_names_are_there_and_each_is_used(name):
    uses = scripts.header(FILES[name], "USES")
    assert {f"_{part}" for part in uses} <= set(PARTS)
    assert len(set(uses)) == len(uses)


def test_every_part_is_used():
    used = {f"_{part}" for name in SCRIPTS for part in scripts.header(FILES[name], "USES")}
    assert used == set(PARTS)


@pytest.mark.parametrize("name", SCRIPTS)
def test_flags_are_ones_that_redis_knows(name):
    assert set(scripts.header(FILES[name], "FLAGS")) <= {"allow-oom", "no-writes", "allow-stale"}


@pytest.mark.parametrize("name", SCRIPTS)
def test_what_a_script_returns_is_named_in_its_header(name):
    head = " ".join(head_of(FILES[name]))
    for status in re.findall(r"return \{'([a-z]+)'", code_of(FILES[name])):
        assert re.search(rf"\b{status}\b", head), f"{name} returns {status}"


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_reads_no_argument_and_no_key_beyond_those_of_its_header(name):
    """Fixed positions only: what follows them, batch by batch, is counted by the contract tests."""
    text = scripts.load(name).plain
    for array, unit in (("KEYS", {"partition": 7, "registry": 4}), ("ARGV", {"partition": 5, "registry": 2})):
        named = re.sub(r",? ?\(.*?\)|,? \bthen\b.*", "", field_of(FILES[name], array)).split()
        size = len(named) + (unit.get(named[0], 1) - 1 if named else 0)
        highest = max((int(index) for index in re.findall(rf"\b{array}\[(\d+)\]", text)), default=0)
        assert highest <= size, f"{array}[{highest}], but the header names {size}"


@pytest.mark.parametrize("name", sorted(FILES))
def test_no_key_is_composed_inside_a_script(name):
    """Redis Cluster must see every key in KEYS; names are composed in ``store/keys.py`` alone."""
    code = code_of(FILES[name])
    for expression in FIRST_KEY.findall(code) + PLANNED_KEY.findall(code):
        assert ".." not in expression, expression
        assert not expression.startswith(("'", '"', "ARGV")), expression


@pytest.mark.parametrize("name", sorted(FILES))
def test_no_refusal_is_hidden(name):
    assert not re.search(r"\bx?pcall\b", code_of(FILES[name]))


@pytest.mark.parametrize("name", sorted(FILES))
def test_writes_go_through_the_plan(name):
    """Validate first, write after: what a script calls directly only reads; the plan alone writes."""
    reads = {
        *(
            "ZCARD",
            "XLEN",
            "SCARD",
            "HLEN",
            "HGET",
            "HMGET",
            "HGETALL",
            "ZSCORE",
            "ZMSCORE",
            "ZRANGEBYSCORE",
            "ZRANGE",
        ),
        *("TIME", "GET", "EXISTS", "SMEMBERS", "SISMEMBER", "HEXISTS"),
    }
    called = set(re.findall(r"redis\.call\('([A-Z]+)'", FILES[name]))
    allowed = reads | ({"HSETNX"} if name == "claim_namespace" else set())
    assert called <= allowed


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_writes_no_global_and_reads_none_that_redis_lacks(name):
    """One leaked global would poison every later script on fakeredis, and stop the script on redis-server."""
    lua = lua51.LuaRuntime(unpack_returned_tuples=True)
    names = _globals_of(lua, scripts.load(name).plain)
    assert names["SET"] == set()
    assert names["GET"] <= REDIS_GLOBALS


def _globals_of(lua, source: str) -> dict[str, set[str]]:
    """Find the names of globals that a chunk touches, by running through its bytecode (Lua 5.1)."""
    read = lua.eval(READ_GLOBALS)
    found = {"SET": set(), "GET": set()}
    for entry in read(source).values():
        kind, _, name = entry.partition(" ")
        found[kind].add(name)
    return found


READ_GLOBALS = r"""
function(source)
  local dump = string.dump(assert(loadstring(source)))
  local at, found = 13, {}
  local function byte() at = at + 1; return string.byte(dump, at - 1) end
  local function number(size)
    local value, factor = 0, 1
    for _ = 1, size do value = value + byte() * factor; factor = factor * 256 end
    return value
  end
  local int_size, size_size, number_size = string.byte(dump, 8), string.byte(dump, 9), string.byte(dump, 11)
  local function text()
    local size = number(size_size)
    if size == 0 then return '' end
    at = at + size
    return string.sub(dump, at - size, at - 2)
  end
  local function chunk()
    text()
    at = at + 2 * int_size + 4
    local code, constants = {}, {}
    for i = 1, number(int_size) do code[i] = number(4) end
    for i = 0, number(int_size) - 1 do
      local kind = byte()
      if kind == 1 then at = at + 1 elseif kind == 3 then at = at + number_size
      elseif kind == 4 then constants[i] = text() end
    end
    for _, instruction in ipairs(code) do
      local operation, constant = instruction % 64, math.floor(instruction / 16384)
      if operation == 5 then found[#found + 1] = 'GET ' .. constants[constant] end
      if operation == 7 then found[#found + 1] = 'SET ' .. constants[constant] end
    end
    for _ = 1, number(int_size) do chunk() end
    local lines = number(int_size)
    at = at + lines * int_size
    for _ = 1, number(int_size) do text(); at = at + 2 * int_size end
    for _ = 1, number(int_size) do text() end
  end
  chunk()
  return found
end
"""


def test_a_leaked_global_would_be_found():
    lua = lua51.LuaRuntime(unpack_returned_tuples=True)
    leaky = "local function inner() leaked = 1 return tonumber(read) end local kept = 2 return inner(kept)"
    assert _globals_of(lua, leaky) == {"SET": {"leaked"}, "GET": {"tonumber", "read"}}


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_loads_in_process_without_its_flags(name):
    script = scripts.load(name)
    assert fakeredis.FakeRedis().script_load(script.plain) == script.plain_sha


@pytest.fixture(scope="module")
def one_server():
    from conftest import needs_redis

    needs_redis()
    server = OneServer()
    yield server
    server.close()


@pytest.mark.redis
@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_loads_on_redis_with_and_without_its_flags(one_server, name):
    script = scripts.load(name)
    for text, sha in ((script.plain, script.plain_sha), (script.flagged, script.flagged_sha)):
        assert one_server.raw.script_load(text) == sha
