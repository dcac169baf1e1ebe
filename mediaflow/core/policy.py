"""Stream policies as data: what may play at once. The script ``stream_start.lua`` decides by them in one step.

A start is allowed if every rule allows it. The limit of the user is the first rule; the others come from the
settings. A rule counts streams, or distinct devices, over all live streams of the user that match ``where``,
and over those with the same value of ``attribute`` if it names one.
"""

from typing import Annotated, Any, Literal

import msgspec

CountBy = Literal["stream", "device"]
MAX_RULES = 50
MOST_STREAMS = 10_000
"""No limit is above it."""


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many streams, or devices, of one user may play at once; a start needs the consent of every rule.

    Attributes:
        policy: Its name, shown in refusals.
        count: What it counts: ``streams``, or distinct ``devices``.
        attribute: Count those whose metadata have the same value of this attribute; streams without it are not
            counted.
        where: Count only streams whose attributes have these values.
        max: How many it allows.
    """

    policy: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    max: Annotated[int, msgspec.Meta(ge=0, le=MOST_STREAMS)]
    count: Literal["streams", "devices"] = "streams"
    attribute: Annotated[str, msgspec.Meta(min_length=1, max_length=64)] | None = None
    where: dict[str, str | int | float | bool] = msgspec.field(
        default_factory=dict[str, str | int | float | bool]
    )


def user_rule(limit: int, count_by: CountBy) -> Rule:
    """Return the limit of a user as a rule."""
    return Rule(policy="user", max=limit, count="devices" if count_by == "device" else "streams")


def attributes(metadata: dict[str, Any], rules: tuple[Rule, ...]) -> dict[str, str]:
    """Return what the rules look at in a stream's metadata, as text; values that are no scalars are left out."""
    wanted = {name for rule in rules for name in (*rule.where, *([rule.attribute] if rule.attribute else []))}
    return {
        name: value_text(metadata[name])
        for name in sorted(wanted)
        if isinstance(metadata.get(name), str | int | float | bool)
    }


def plain_rule(rule: Rule) -> dict[str, Any]:
    """Return a rule as the scripts read it: without what it does not say, values as they compare them."""
    plain: dict[str, Any] = {
        name: value for name, value in msgspec.to_builtins(rule).items() if value is not None
    }
    return plain | {"where": {name: value_text(value) for name, value in rule.where.items()}}


def value_text(value: str | float | bool) -> str:  # noqa: FBT001 - a value of JSON
    """Return a scalar as the text that rules compare.

    ``5``, ``5.0`` and ``"5"`` are the same, lest a player evades a rule by its spelling.
    """
    if isinstance(value, str):
        return value
    whole = isinstance(value, float) and value.is_integer()
    return msgspec.json.encode(int(value) if whole else value).decode()
