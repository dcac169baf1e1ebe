"""The parts of the documents that are written from the code: ``python tests/generated.py`` writes them anew.

config/README.md is all of one piece; in ARCHITECTURE.md it is the diagram of a session's states.
"""

import re
import sys
from pathlib import Path

import click
from harness.commands import COMMANDS

from mediaflow.cli.settings import written
from mediaflow.core.states import diagram
from mediaflow.settings import allowed, describe, env_name

ROOT = Path(__file__).parents[1]
PROGRAMS = ("worker", "loadbalancer", "watchdog", "concurrency")
DIAGRAM = re.compile(r"(?<=^```mermaid\n)stateDiagram-v2\n.*?(?=^```$)", re.MULTILINE | re.DOTALL)

HEAD = """\
# Settings

A setting is given as a flag (`--lease-ttl 5`), as an environment variable (`MEDIAFLOW_LEASE_TTL=5`), or in a TOML file
that `--config` or `MEDIAFLOW_CONFIG` names. Flags win over the environment, the environment over the file, the file
over the defaults. In Python they are arguments: `MediaApp(lease_ttl=5)`. Durations are in seconds. What is wrong, or
contradicts itself, is refused before anything starts.

[mediaflow.toml](mediaflow.toml) holds all of them with their defaults, to be copied and cut down to what you change:

```toml
redis_url = "redis://redis.internal:6379/0"
namespace = "calls"
lease_ttl = 5
```

What holds on a machine, and where it comes from:

```shell
mediaflow settings
```

This page is written from the code, by `python tests/generated.py`.
"""


def flags() -> dict[str, dict[str, list[str]]]:
    """Return for each setting its flags, and for each flag the commands that take it."""
    found: dict[str, dict[str, list[str]]] = {name: {} for name in describe()}
    for command in COMMANDS.values():
        for parameter in command.params:
            if isinstance(parameter, click.Option) and parameter.name in found:
                found[parameter.name].setdefault(parameter.opts[0], []).append(command.name or "")
    return found


def takers(commands: list[str]) -> str:
    """Name the commands that take a flag; all programs together are called so."""
    others = [name for name in sorted(commands) if name not in PROGRAMS]
    if set(PROGRAMS) <= set(commands):
        named = ["every program", *(f"`{name}`" for name in others)]
    else:
        named = [f"`{name}`" for name in (*(name for name in PROGRAMS if name in commands), *others)]
    return named[0] if len(named) == 1 else f"{', '.join(named[:-1])} and {named[-1]}"


def settings_page() -> str:
    """Return config/README.md."""
    lines = [HEAD, "| setting | default | values |", "|---|---|---|"]
    for name, (default, _) in describe().items():
        lines.append(f"| [`{name}`](#{name}) | {_code(written(default))} | {_values(name)} |")
    for name, (default, about) in describe().items():
        given = [f"`{flag}` of {takers(commands)}" for flag, commands in flags()[name].items()]
        lines += [
            "",
            f"## {name}",
            "",
            about,
            "",
            f"* variable `{env_name(name)}`; {'; '.join(given) or 'no flag'}",
            f"* {_values(name)}; {f'default {_code(written(default))}' if written(default) else 'no default'}",
        ]
    return "\n".join(lines) + "\n"


def _values(name: str) -> str:
    return allowed(name).removeprefix("use ")


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def architecture(text: str) -> str:
    """Return ARCHITECTURE.md with the diagram that the table of states gives."""
    return DIAGRAM.sub(lambda _: f"{diagram()}\n", text)


def main() -> int:
    """Write what is out of date, and say what."""
    page, text = ROOT / "config" / "README.md", ROOT / "ARCHITECTURE.md"
    for path, content in ((page, settings_page()), (text, architecture(text.read_text()))):
        if not path.exists() or path.read_text() != content:
            path.write_text(content)
            print(f"wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
