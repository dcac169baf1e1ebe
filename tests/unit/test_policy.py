"""Stream policies: what a rule may say, and what of a stream's metadata it looks at."""

import msgspec
import pytest

from mediaflow.core.policy import Rule, attributes, plain_rule, user_rule
from mediaflow.settings import Settings, SettingsError, load

LIVE_ONLY = Rule(policy="live", max=1, where={"contentType": "live"})
PER_CHANNEL = Rule(policy="channel", max=2, attribute="channel")


def test_rules_look_at_their_own_attributes_only():
    metadata = {"channel": "one", "contentType": "live", "title": "secret"}
    assert attributes(metadata, (LIVE_ONLY, PER_CHANNEL)) == {"channel": "one", "contentType": "live"}
    assert attributes(metadata, ()) == {}


@pytest.mark.parametrize("value", [None, [], ["live"], {}, {"a": 1}])
def test_what_is_no_scalar_is_no_value(value):
    assert attributes({"channel": value}, (PER_CHANNEL,)) == {}


@pytest.mark.parametrize(
    ("value", "text"),
    [("5", "5"), (5, "5"), (5.0, "5"), (5.5, "5.5"), (True, "true"), (False, "false"), ("", ""), ("é", "é")],
)
def test_values_are_compared_as_text_so_that_a_player_cannot_evade_a_rule_by_its_spelling(value, text):
    assert attributes({"channel": value}, (PER_CHANNEL,)) == {"channel": text}


@pytest.mark.parametrize("value", ["live", True, False, 5, 1.5, 2.0, 0])
def test_a_rule_means_what_a_player_sends(value):
    rule = Rule(policy="only", max=1, where={"name": value})
    assert plain_rule(rule)["where"] == attributes({"name": value}, (rule,))


def test_a_rule_for_the_script_leaves_out_what_it_does_not_say():
    assert plain_rule(user_rule(3, "device")) == {"policy": "user", "max": 3, "count": "devices", "where": {}}
    assert plain_rule(user_rule(3, "stream"))["count"] == "streams"
    assert plain_rule(PER_CHANNEL)["attribute"] == "channel"


RULES = (
    '[{"policy": "live", "max": 1, "where": {"contentType": "live", "uhd": true}},'
    ' {"policy": "channel", "max": 2, "count": "devices", "attribute": "channel"}]'
)
AS_RULES = (
    Rule(policy="live", max=1, where={"contentType": "live", "uhd": True}),
    Rule(policy="channel", max=2, count="devices", attribute="channel"),
)


def test_rules_come_from_a_file_as_tables_and_from_the_environment_as_json(tmp_path):
    path = tmp_path / "settings.toml"
    path.write_text(
        '[[stream_rules]]\npolicy = "live"\nmax = 1\nwhere = {contentType = "live", uhd = true}\n'
        '[[stream_rules]]\npolicy = "channel"\nmax = 2\ncount = "devices"\nattribute = "channel"\n'
    )
    assert load(config=path).stream_rules == AS_RULES
    assert load(environ={"MEDIAFLOW_STREAM_RULES": RULES}).stream_rules == AS_RULES
    assert load({"stream_rules": msgspec.json.decode(RULES)}).stream_rules == AS_RULES
    assert Settings().stream_rules == ()


@pytest.mark.parametrize(
    "text",
    [
        "[{]",
        "live",
        '[{"policy": "live"}]',
        '[{"max": 1}]',
        '[{"policy": "", "max": 1}]',
        '[{"policy": "live", "max": -1}]',
        '[{"policy": "live", "max": 1, "count": "users"}]',
        '[{"policy": "live", "max": 1, "wher": {}}]',
        '[{"policy": "live", "max": 1, "where": {"a": []}}]',
        str([{"policy": "live", "max": 1}] * 51).replace("'", '"'),
    ],
)
def test_a_wrong_rule_is_refused_before_anything_starts(text):
    with pytest.raises(SettingsError, match="MEDIAFLOW_STREAM_RULES"):
        load(environ={"MEDIAFLOW_STREAM_RULES": text})


def test_the_name_of_the_users_own_limit_is_taken():
    with pytest.raises(SettingsError, match="'user' is the name"):
        load({"stream_rules": [{"policy": "user", "max": 1}]})


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (
            {"stream_ttl": 10, "stream_heartbeat_interval": 10},
            "stream_heartbeat_interval = 10 must be shorter",
        ),
        ({"stream_ttl": 0.5}, "stream-ttl = 0.5: use a number"),
        ({"stream_limit": -1}, "stream-limit = -1: use a whole number"),
        ({"stream_throttle": 0}, "stream-throttle = 0: use a whole number"),
        ({"count_by": "user"}, "use device or stream"),
        ({"on_store_down": "panic"}, "use allow or deny"),
        ({"readmit": "perhaps"}, "use true or false"),
        ({"jwt_algorithms": "none"}, "use some of ES256, EdDSA, HS256, RS256"),
        ({"jwt_algorithms": "ES256"}, "need one source of keys"),
        ({"jwt_algorithms": "ES256", "jwt_key": "k", "jwt_jwks": "j"}, "need one source of keys"),
        ({"jwt_key": "k"}, "verify nothing without jwt_algorithms"),
        ({"jwt_algorithms": "HS256,RS256", "jwt_key": "k"}, "mix HS256"),
    ],
)
def test_settings_that_make_no_sense_are_refused_with_the_reason(flags, words):
    with pytest.raises(SettingsError, match=words):
        load(flags)


def test_algorithms_come_with_commas_or_as_a_list():
    for given in ("RS256, EdDSA", ["RS256", "EdDSA"], '["RS256", "EdDSA"]'):
        assert load({"jwt_algorithms": given, "jwt_jwks": "keys.json"}).jwt_algorithms == ("RS256", "EdDSA")


def test_no_message_shows_a_secret():
    with pytest.raises(SettingsError) as error:
        load({"jwt_key": ["hunter2"]})
    assert "hunter2" not in str(error.value)
