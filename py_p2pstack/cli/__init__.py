"""The command line, `p2pstack`: a node to run, and the DHT from a shell.

main               the root: which command lives in which module (imported when it is called)
settings           options: flag > environment > config file > default
failures           what went wrong → an exit code and one line: `error: cause → what to do`
running            runs a command on asyncio or trio, and ends it well on Ctrl-C and SIGTERM
callee, calls      what may be asked of a node, as JSON goes in and out
asking             asks, and shows the answer
access             a node to ask: the one that runs in the data directory, or a short-lived one of our own
control            the control socket of a running node; `control_client` is its other end, quick to import
identity_commands, node_commands, peer_commands, dht_commands, completion     the commands
lookup_tree        a lookup as a tree, made from its events
render             everything drawn in the terminal

It needs the extra `cli`; nothing else in the package imports it.
"""

import io
import os
import sys


def entry_point() -> None:
    """The entry point; ends the process."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by whoever started us (`>&-`): nothing else may take its place
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - for as long as the process lives
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a code page without some letter is no reason to end
    try:
        sys.exit(_run())
    except KeyboardInterrupt:  # while importing
        sys.exit(130)


def _run() -> int:
    try:
        import click
        import platformdirs
        import rich
    except ModuleNotFoundError as fault:
        print(f'error: {fault.name} is not installed → pip install "py-p2pstack[cli]"', file=sys.stderr)
        return 1
    del click, platformdirs, rich
    from py_p2pstack.cli.main import run

    return run()
