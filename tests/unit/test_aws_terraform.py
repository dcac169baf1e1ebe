"""The Terraform of config/aws is well formed, and says what the code and its own page say."""

import functools
import importlib
import re
from pathlib import Path
from typing import Any

import hcl2
import pytest

from mediaflow.settings import describe, env_name

pytestmark = pytest.mark.slow  # The parser takes seconds.

FOLDER = Path(__file__).parents[2] / "config" / "aws"
FILES = sorted(FOLDER.glob("*.tf"))
TEXT = "\n".join(path.read_text() for path in FILES)


def bare(value: Any) -> Any:
    """Return what was parsed without the quotes that some versions of the parser leave on."""
    if isinstance(value, dict):
        return {bare(key): bare(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [bare(inner) for inner in value]
    return value.strip('"') if isinstance(value, str) else value


@functools.cache
def parsed(path: Path) -> dict[str, Any]:
    with path.open() as file:
        return bare(hcl2.load(file))


def blocks(kind: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for path in FILES:
        found += parsed(path).get(kind, [])
    return found


def resource(kind: str) -> dict[str, Any]:
    """Return the body of the only resource of a kind."""
    (found,) = [next(iter(block[kind].values())) for block in blocks("resource") if kind in block]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_each_file_parses(path: Path) -> None:
    assert parsed(path)


def test_the_function_runs_the_handler_that_there_is() -> None:
    module, _, name = resource("aws_lambda_function")["handler"].rpartition(".")
    assert callable(getattr(importlib.import_module(module), name))


def test_every_variable_is_declared_described_used_and_on_the_page() -> None:
    declared = {name: body for block in blocks("variable") for name, body in block.items()}
    used = set(re.findall(r"\bvar\.(\w+)", TEXT))
    page = (FOLDER / "README.md").read_text()
    assert used == declared.keys()
    assert {name for name, body in declared.items() if not body.get("description")} == set()
    assert {name for name in declared if f"`{name}`" not in page} == set()


def test_the_settings_it_gives_exist() -> None:
    given = set(re.findall(r"\b(MEDIAFLOW_\w*[A-Z])\b", TEXT + (FOLDER / "README.md").read_text()))
    assert given <= {env_name(name) for name in describe()}
    assert {"MEDIAFLOW_REDIS_URL", "MEDIAFLOW_API_TOKEN"} <= given


def test_redis_is_encrypted_has_a_password_and_drops_no_stream() -> None:
    redis = resource("aws_elasticache_replication_group")
    assert redis["transit_encryption_enabled"] is True
    assert redis["transit_encryption_mode"] == "required"
    assert redis["at_rest_encryption_enabled"] is True
    assert "redis_auth_token" in redis["auth_token"]
    assert '"rediss://' in TEXT
    (parameter,) = resource("aws_elasticache_parameter_group")["parameter"]
    assert (parameter["name"], parameter["value"]) == ("maxmemory-policy", "noeviction")


def test_plain_http_only_redirects() -> None:
    listeners = [block["aws_lb_listener"] for block in blocks("resource") if "aws_lb_listener" in block]
    actions = {
        body["protocol"]: body["default_action"][0]["type"]
        for listener in listeners
        for body in listener.values()
    }
    assert actions == {"HTTPS": "forward", "HTTP": "redirect"}


def test_what_the_linter_is_told_to_skip_has_a_reason() -> None:
    skips = re.findall(r"checkov:skip=(\w+)(.*)", TEXT)
    assert skips
    assert [check for check, reason in skips if not re.match(r":\S.{8,}", reason)] == []
