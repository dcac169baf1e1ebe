"""Settings: who wins over whom, what is refused, and that the reference file tells the truth."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from mediaflow.settings import Settings, SettingsError, describe, env_name, load

REFERENCE = Path(__file__).parents[2] / "config" / "mediaflow.toml"


def config(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "settings.toml"
    path.write_text(text)
    return path


def test_the_reference_file_holds_every_setting_with_its_default() -> None:
    text = REFERENCE.read_text()
    assert load(config=REFERENCE) == Settings()
    written = tomllib.loads(text)
    for name, (default, _) in describe().items():
        if default is None:
            assert f"\n# {name} = " in text, f"{name} is not even mentioned"
        else:
            found = tuple(written[name]) if isinstance(written[name], list) else written[name]
            assert found == default
            assert type(found) is type(default)


def test_the_reference_file_explains_every_setting() -> None:
    words = " ".join(line.removeprefix("#").strip() for line in REFERENCE.read_text().splitlines())
    for name, (_, sentence) in describe().items():
        assert sentence, f"{name} has no sentence"
        assert sentence in words


def test_flags_win_over_the_environment_over_the_file_over_the_defaults(tmp_path: Path) -> None:
    path = config(tmp_path, "slots = 1\nlease_ttl = 11\nmax_pending = 12\n")
    environ = {"MEDIAFLOW_SLOTS": "2", "MEDIAFLOW_LEASE_TTL": "22", "OTHER_MAX_PENDING": "1"}
    settings = load({"slots": 3, "max_attempts": None}, environ, path)
    assert (settings.slots, settings.lease_ttl, settings.max_pending, settings.max_attempts) == (
        3,
        22.0,
        12,
        3,
    )


def test_the_environment_may_name_the_file_and_a_flag_another(tmp_path: Path) -> None:
    path = config(tmp_path, "slots = 7")
    assert load(environ={"MEDIAFLOW_CONFIG": str(path)}).slots == 7
    assert load(environ={"MEDIAFLOW_CONFIG": str(path)}, config=REFERENCE).slots == 100
    assert load(environ={"MEDIAFLOW_CONFIG": ""}).slots == 100


@pytest.mark.parametrize("name", sorted(describe()))
def test_every_setting_is_an_environment_variable(name: str) -> None:
    default = describe()[name][0]
    text = {None: "8089", (): ""}.get(default, str(default))
    if name == "stream_rules":
        text = "[]"
    settings = load(environ={env_name(name): text})
    assert getattr(settings, name) == (8089 if default is None else default)


@pytest.mark.parametrize("source", ["flag", "environment", "file"])
def test_a_wrong_value_names_where_it_came_from(tmp_path: Path, source: str) -> None:
    path = config(tmp_path, 'slots = "many"') if source == "file" else None
    named = {"flag": "--slots", "environment": "MEDIAFLOW_SLOTS", "file": f"slots in {path}"}[source]
    with pytest.raises(SettingsError) as caught:
        load(
            {"slots": "many"} if source == "flag" else {},
            {"MEDIAFLOW_SLOTS": "many"} if source == "environment" else {},
            path,
        )
    assert str(caught.value) == f"{named} = 'many': use a whole number from 1 to 1,000,000"


@pytest.mark.parametrize(
    ("name", "value", "advice"),
    [
        ("slots", 0, "use a whole number from 1 to 1,000,000"),
        ("slots", "2.5", "use a whole number from 1 to 1,000,000"),
        ("slots", True, "use a whole number from 1 to 1,000,000"),
        ("port", 65536, "use a whole number from 0 to 65535"),
        ("port", "", "use a whole number from 0 to 65535"),
        ("max_pending", -1, "use a whole number, 0 or more"),
        ("lease_ttl", 2.9, "use a number of seconds from 3 to 3600"),
        ("lease_ttl", "nan", "use a number of seconds from 3 to 3600"),
        ("lease_ttl", "soon", "use a number of seconds from 3 to 3600"),
        ("retention", "inf", "use a number of seconds above 0, at most 31,622,400"),
        ("accept_ttl", 0, "use a number of seconds above 0"),
        ("drain_timeout", float("inf"), "use a number of seconds, 0 or more"),
        ("admission", "maybe", "use queue or reject"),
        ("log_level", "loud", "use debug, error, info or warning"),
        ("namespace", 5, "use a text"),
    ],
)
def test_a_wrong_value_is_shown_with_what_is_allowed(name: str, value: Any, advice: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load({name: value})
    assert str(caught.value) == f"--{name.replace('_', '-')} = {value!r}: {advice}"


def test_a_setting_given_in_code_is_named_as_it_was_written() -> None:
    with pytest.raises(SettingsError, match=r"^lease_ttl = 2: use"):
        load({"lease_ttl": 2}, spell=str)


def test_a_wrong_token_is_not_shown() -> None:
    with pytest.raises(SettingsError, match=r"--api-token = \(hidden\)"):
        load({"api_token": 1234567})


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            {"lease_ttl": 3, "accept_ttl": 3},
            "accept_ttl = 3 must be shorter than lease_ttl = 3: lower the one or raise the other",
        ),
        ({"lease_ttl": 10, "retention": 19.9}, "retention = 19.9 must be at least twice lease_ttl = 10"),
        ({"namespace": "a b"}, "namespace 'a b' is not allowed"),
        ({"namespace": "{x}"}, "namespace '{x}' is not allowed"),
        ({"instance_id": "a/b"}, "instance id 'a/b' is not allowed"),
        ({"advertise": "0.0.0.0:8081"}, "advertise = '0.0.0.0:8081' is a wildcard"),
        ({"advertise": "[::]:8081"}, r"advertise = '\[::\]:8081' is a wildcard"),
        ({"advertise": ":8081"}, "advertise = ':8081' is a wildcard"),
        ({"advertise": "10.0.0.5"}, "give host:port, for example"),
        ({"advertise": "10.0.0.5:0"}, "give host:port, for example"),
        ({"advertise": "10.0.0.5:65536"}, "give host:port, for example"),
        ({"slot": 5}, "unknown setting 'slot': the settings are accept_ttl, "),
    ],
)
def test_what_contradicts_itself_is_refused(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        load(flags)


def test_values_that_agree_only_together_may_come_from_two_places() -> None:
    settings = load({"accept_ttl": 3}, {"MEDIAFLOW_LEASE_TTL": "3.5", "MEDIAFLOW_RETENTION": "7"})
    assert (settings.lease_ttl, settings.accept_ttl, settings.retention) == (3.5, 3.0, 7.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("slots = ", "is not TOML"),
        ("[worker]\nslots = 5", "unknown setting 'worker' in"),
        ("slot = 5", "unknown setting 'slot' in"),
        (None, "cannot read the settings file .*: No such file"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "none.toml" if text is None else config(tmp_path, text)
    with pytest.raises(SettingsError, match=message) as caught:
        load(config=path)
    assert "\n" not in str(caught.value)


def test_a_lease_is_renewed_each_third_of_it() -> None:
    assert Settings(lease_ttl=9.0).renew_interval_s == 3.0
