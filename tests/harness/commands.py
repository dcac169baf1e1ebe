"""The commands of `mediaflow`, all loaded: by name."""

import click

from mediaflow.cli.__main__ import group

_CONTEXT = click.Context(group)

COMMANDS = {
    name: command
    for name in group.list_commands(_CONTEXT)
    if (command := group.get_command(_CONTEXT, name)) is not None
}
