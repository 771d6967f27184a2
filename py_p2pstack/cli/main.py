"""The root command: which command lives where. A module is imported when one of its commands is called."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path

import click
from click.core import ParameterSource

from py_p2pstack import __version__
from py_p2pstack.cli.failures import Exit, Failure, failure_of
from py_p2pstack.cli.settings import APP, ConfigFile, Root

INTERRUPTED = 130

_HOMES: Mapping[str, str] = {
    "id": "identity_commands:show_id",
    "keygen": "identity_commands:keygen",
    "node": "node_commands:node",
    "ping": "peer_commands:ping",
    "identify": "peer_commands:identify",
    "dht": "dht_commands:dht",
    "completion": "completion:completion",
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands, in the order one needs them."""
        return list(_HOMES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        home = _HOMES.get(cmd_name)
        if home is None:
            return None
        module, name = home.split(":")
        command = getattr(import_module(f"py_p2pstack.cli.{module}"), name)
        assert isinstance(command, click.Command)
        return command


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 ok, 1 error, 2 usage, 3 not found, 4 timeout, 5 no peers, 6 invalid record, "
    "128 + n ended by signal n.",
)
@click.version_option(__version__, prog_name=APP)
@click.option("--config", envvar="P2PSTACK_CONFIG", type=click.Path(path_type=Path), help="The config file (TOML).")
@click.option("--debug", is_flag=True, envvar="P2PSTACK_DEBUG", help="Log everything; show tracebacks.")
@click.pass_context
def root(ctx: click.Context, config: Path | None, debug: bool) -> None:
    """A peer-to-peer node, and its DHT from the shell.

    Options can be set in the environment too (P2PSTACK_DATA_DIR for --data-dir), and in a config file (data-dir = "…").
    """
    state = ctx.obj
    if config is not None:
        state.config = ConfigFile(config)
    state.debug = debug
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.DEBUG if debug else logging.ERROR)
    if not debug:
        logging.getLogger("py_p2pstack.storage").setLevel(logging.WARNING)  # it concerns the user's own data


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code. Whatever goes wrong ends in one line on standard error."""
    state = Root(ConfigFile())
    try:
        code = root.main(arguments, prog_name=APP, standalone_mode=False, obj=state)
        sys.stdout.flush()
        return code if isinstance(code, int) else Exit.OK
    except click.exceptions.NoArgsIsHelpError as fault:
        fault.show()
        return Exit.USAGE
    except click.UsageError as fault:
        return _tell(Failure(Exit.USAGE, fault.format_message(), _remedy(fault, state.config)))
    except click.ClickException as fault:
        return _tell(Failure(Exit.ERROR, fault.format_message()))
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:  # whoever read our output has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.ERROR
    except Exception as fault:  # noqa: BLE001 - the last boundary: a user sees a line, not a traceback
        if state.debug:
            traceback.print_exc()
        unexpected = Failure(Exit.ERROR, f"unexpected {type(fault).__name__}: {fault}", "run it again with --debug")
        return _tell(failure_of(fault) or unexpected)


def _remedy(fault: click.UsageError, config: ConfigFile) -> str:
    """What to do about a usage error: where the value came from, if not from the command line."""
    ctx = fault.ctx
    if ctx is None:
        return f"see {APP} --help"
    param = fault.param if isinstance(fault, click.BadParameter) else None
    if param is not None and param.name is not None:
        source = ctx.get_parameter_source(param.name)
        if source is ParameterSource.ENVIRONMENT:
            return f"correct {param.envvar} in the environment; see {ctx.command_path} --help"
        if source is ParameterSource.DEFAULT_MAP:
            return f"correct it in {config.path}; see {ctx.command_path} --help"
    return f"see {ctx.command_path} --help"


def _tell(failure: Failure) -> int:
    text = str(failure)
    try:
        text.encode(sys.stderr.encoding)
    except UnicodeEncodeError:  # a terminal without arrows
        text = text.encode("ascii", "replace").replace(b" ? ", b" -> ").decode()
    click.echo(text, err=True)
    return failure.code
