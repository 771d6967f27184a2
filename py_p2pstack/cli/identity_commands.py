"""`id` and `keygen`: who we are."""

from __future__ import annotations

from pathlib import Path

import click

from py_p2pstack.cli.access import load_key
from py_p2pstack.cli.asking import write_json
from py_p2pstack.cli.failures import Exit, Failure
from py_p2pstack.cli.settings import KEY_FILE, data_dir, options


@click.command("id", short_help="Print a peer id.")
@click.argument("keyfile", required=False, type=click.Path(dir_okay=False, path_type=Path))
@options("data-dir", "json")
def show_id(keyfile: Path | None, data_dir: Path | None, json: bool) -> None:
    """Print the peer id of the node in the data directory, or of a KEYFILE."""
    path = keyfile or key_file(data_dir)
    key = load_key(path)
    peer = key.public_key.peer_id()
    if json:
        write_json(
            {
                "command": "id",
                "peer_id": str(peer),
                "cid": peer.to_cid(),
                "key_type": key.key_type.name.lower(),
                "file": str(path),
            }
        )
    else:
        click.echo(str(peer))


@click.command(short_help="Make a private key.")
@click.option(
    "--type", "key_type", type=click.Choice(["ed25519", "secp256k1", "ecdsa", "rsa"]), default="ed25519",
    show_default=True, help="The kind of key.",
)  # fmt: skip
@click.option(
    "--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="Where to; the data directory by default."
)
@options("data-dir", "json")
def keygen(key_type: str, output: Path | None, data_dir: Path | None, json: bool) -> None:
    """Make a private key, in a file that only you can read, and print its peer id.

    A key that is there already is never overwritten.
    """
    from py_p2pstack.identity import KeyType, PrivateKey, save_key_file

    path = output or key_file(data_dir)
    if output is None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = PrivateKey.generate(KeyType[key_type.upper()])
    try:
        save_key_file(path, key)
    except FileExistsError as fault:
        raise Failure(Exit.ERROR, str(fault), "name another file with --output") from None
    except OSError as fault:  # which names a file that only was to become the key
        raise Failure(Exit.ERROR, f"cannot write {path}: {fault.strerror}", "check the path and the disk") from None
    peer = key.public_key.peer_id()
    if json:
        write_json({"command": "keygen", "peer_id": str(peer), "key_type": key_type, "file": str(path)})
    else:
        click.echo(str(peer))


def key_file(given: Path | None) -> Path:
    """The key file of a data directory."""
    return data_dir(given) / KEY_FILE
