"""`mediaflow completion`: what makes a shell complete commands, flags and instances."""

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")

_VARIABLE = "_MEDIAFLOW_COMPLETE"


def _completion(shell: str) -> int:
    context = click.get_current_context()
    found = get_completion_class(shell)
    if found is None:  # the argument's type allows no other shell
        raise click.UsageError(f"{shell} is not known: use one of {', '.join(SHELLS)}")
    click.echo(found(context.find_root().command, {}, "mediaflow", _VARIABLE).source())
    return 0


command = click.Command(
    "completion",
    callback=_completion,
    help=(
        "Print the script that makes SHELL complete mediaflow's commands, flags and instances.\n\n"
        "\b\n"
        'bash  add to ~/.bashrc: eval "$(mediaflow completion bash)"\n'
        'zsh   add to ~/.zshrc: eval "$(mediaflow completion zsh)"\n'
        "fish  mediaflow completion fish > ~/.config/fish/completions/mediaflow.fish"
    ),
    short_help="Print what makes a shell complete.",
    params=[click.Argument(["shell"], type=click.Choice(SHELLS))],
)
