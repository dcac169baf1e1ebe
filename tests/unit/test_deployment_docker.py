"""Image and compose file run our programs with what they accept, as nobody in particular, and let them drain."""

import json
import re
from typing import Any

import pytest
from harness.deployment import (
    CONFIG,
    ROOT,
    document,
    flags_of,
    longest_stop_s,
    parse_duration_s,
    settings_of,
)

DOCKERFILE = (CONFIG / "docker" / "Dockerfile").read_text()
COMPOSE = document(CONFIG / "docker" / "compose.yaml")
PROGRAMS = {name: body for name, body in COMPOSE["services"].items() if name != "redis"}


def instructions() -> list[tuple[str, str]]:
    """Return the Dockerfile as (instruction, rest), without comments and broken lines."""
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE, flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in text.splitlines() if line.strip()]


def last(name: str) -> str:
    return [rest for instruction, rest in instructions() if instruction == name][-1]


def image_environment() -> dict[str, str]:
    return dict(word.split("=", 1) for word in last("ENV").split())


def test_the_image_starts_our_command_without_a_shell_that_would_keep_sigterm_to_itself() -> None:
    assert json.loads(last("ENTRYPOINT")) == ["mediaflow"]
    assert json.loads(last("CMD")) == ["--help"]
    assert json.loads(last("HEALTHCHECK").partition(" CMD ")[2])[-1] == "/healthz"
    assert last("STOPSIGNAL") == "SIGTERM"


def test_the_image_runs_as_a_number_that_is_not_root() -> None:
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", last("USER"))


def test_the_image_listens_where_its_healthcheck_asks() -> None:
    environ = image_environment()
    settings = settings_of(["loadbalancer"], environ)
    assert (settings.host, settings.port) == ("0.0.0.0", int(last("EXPOSE")))
    assert f"DEFAULT_PORT = {settings.port}\n" in (CONFIG / "docker" / "healthcheck.py").read_text()


def test_the_layer_that_the_image_is_for_has_a_command_of_ours() -> None:
    (example,) = re.findall(r"^#\s+CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    flags_of(json.loads(example))


def test_the_builder_is_sent_what_is_copied_and_nothing_else() -> None:
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        source
        for instruction, rest in instructions()
        if instruction == "COPY" and "--from" not in rest
        for source in rest.split()[:-1]
    }
    assert copied == sent
    assert {path for path in copied if not (ROOT / path).exists()} == set()


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_each_service_starts_with_settings_that_agree_and_has_the_time_to_drain(name: str) -> None:
    service = PROGRAMS[name]
    environ = image_environment() | {
        key: re.sub(r"\$\{\w+:-(.*)\}", r"\1", value) for key, value in service["environment"].items()
    }
    settings = settings_of(service["command"], environ)
    assert parse_duration_s(service["stop_grace_period"]) > longest_stop_s(settings)
    assert settings.redis_url == "redis://redis:6379/0"
    if service["command"][0] == "worker":
        assert (settings.instance_id, settings.advertise) == (name, f"{name}:{settings.port}")


@pytest.mark.parametrize("name", sorted(COMPOSE["services"]))
def test_each_service_says_whether_it_is_well_and_comes_back(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["restart"] == "unless-stopped"
    check: list[str] = service["healthcheck"]["test"]
    if name != "redis":
        assert check[1:] == ["python", "-I", "/opt/mediaflow/healthcheck.py", "/readyz"]
        assert service["depends_on"] == {"redis": {"condition": "service_healthy"}}


def test_no_port_is_open_to_other_machines_and_none_is_taken_twice() -> None:
    published = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert [port for port in published if not port.startswith("127.0.0.1:")] == []
    assert len({port.split(":")[1] for port in published}) == len(published)


def test_the_programs_that_were_asked_for_are_there() -> None:
    count: dict[str, int] = {}
    for service in PROGRAMS.values():
        program = service["command"][0]
        count[program] = count.get(program, 0) + service.get("deploy", {}).get("replicas", 1)
    assert count == {"loadbalancer": 1, "worker": 3, "watchdog": 2, "concurrency": 2}


def test_redis_is_started_with_our_configuration_and_keeps_its_data() -> None:
    redis: dict[str, Any] = COMPOSE["services"]["redis"]
    mounts = dict(volume.split(":")[:2] for volume in redis["volumes"])
    (source,) = [source for source, target in mounts.items() if target == redis["command"][1]]
    assert (CONFIG / "docker" / source).resolve() == CONFIG / "redis" / "redis.conf"
    assert mounts["redis"] == "/data"
    assert "redis" in COMPOSE["volumes"]
