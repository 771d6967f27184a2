"""`id` and `keygen`: who we are."""

from __future__ import annotations

import secrets
from pathlib import Path

import click

from py_p2pstack.cli.access import load_key
from py_p2pstack.cli.asking import write_json
from py_p2pstack.cli.failures import Exit, Failure
from py_p2pstack.cli.settings import KEY_FILE, PSK_FILE, options
from py_p2pstack.cli.settings import data_dir as where_data_is


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
    "--type", "key_type", type=click.Choice(["ed25519", "secp256k1", "ecdsa", "rsa", "psk"]), default="ed25519",
    show_default=True, help="The kind of key; psk: the one that members of a private network share.",
)  # fmt: skip
@click.option(
    "--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="Where to; the data directory by default."
)
@options("data-dir", "json")
def keygen(key_type: str, output: Path | None, data_dir: Path | None, json: bool) -> None:
    """Make a private key, in a file that only you can read, and print its peer id.

    That of a private network (`--type psk`) goes to every member, who names its file with `--psk`.
    A key that is there already is never overwritten.
    """
    from py_p2pstack.identity import KeyType, PrivateKey
    from py_p2pstack.identity.key_file import save_secret_file

    if key_type == "psk":
        from py_p2pstack.transports.pnet.psk import KEY_SIZE, encode_psk

        path, peer = output or where_data_is(data_dir) / PSK_FILE, None
        content = encode_psk(secrets.token_bytes(KEY_SIZE))
    else:
        key = PrivateKey.generate(KeyType[key_type.upper()])
        path, peer, content = output or key_file(data_dir), str(key.public_key.peer_id()), key.encode()
    if output is None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        save_secret_file(path, content)
    except FileExistsError as fault:
        raise Failure(Exit.ERROR, str(fault), "name another file with --output") from None
    except OSError as fault:  # which names a file that only was to become the key
        raise Failure(Exit.ERROR, f"cannot write {path}: {fault.strerror}", "check the path and the disk") from None
    if json:
        write_json({"command": "keygen", "peer_id": peer, "key_type": key_type, "file": str(path)})
    else:
        click.echo(peer or str(path))


def key_file(given: Path | None) -> Path:
    """The key file of a data directory."""
    return where_data_is(given) / KEY_FILE
