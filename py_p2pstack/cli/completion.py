"""`completion`: what a shell needs to complete our commands."""

from __future__ import annotations

import click
from click.shell_completion import ShellComplete, get_completion_class

from py_p2pstack.cli.settings import APP


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    \b
    bash:  eval "$(p2pstack completion bash)"          in ~/.bashrc
    zsh:   eval "$(p2pstack completion zsh)"           in ~/.zshrc
    fish:  p2pstack completion fish > ~/.config/fish/completions/p2pstack.fish
    """
    made = get_completion_class(shell)
    assert made is not None
    # The base class's, which does not start the shell to ask for its version.
    click.echo(ShellComplete.source(made(ctx.find_root().command, {}, APP, f"_{APP.upper()}_COMPLETE")))
