"""Settings on their way to a child process."""

from collections.abc import Container, Mapping

import msgspec

from mediaflow.settings import Settings, env_name


def environment(settings: Settings, outer: Mapping[str, str], without: Container[str]) -> dict[str, str]:
    """Return the environment of a child process that is to have ``settings``.

    They travel in it, not on the command line: a URL may hold a password, and ``ps`` shows commands.

    Args:
        settings: Every one of them is passed on, so that no settings file has to be read again.
        outer: The environment of this process; whatever it says of settings is left out.
        without: Names of settings that go another way.
    """
    kept = {name: value for name, value in outer.items() if not name.startswith(env_name(""))}
    for name in Settings.__struct_fields__:
        value = getattr(settings, name)
        if value is not None and name not in without:
            # Lists are JSON in a variable; of a plain value the text is the same.
            kept[env_name(name)] = (
                msgspec.json.encode(value).decode() if isinstance(value, tuple) else str(value)
            )
    return kept
