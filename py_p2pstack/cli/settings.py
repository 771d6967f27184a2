"""Settings: a flag goes before the environment, that before the config file, that before the default.

The environment's names are `P2PSTACK_` and the option's, in capitals. The config file is TOML with the option's names
as keys (`data-dir = "…"`, `bootstrap = ["…"]`); it lies where the platform wants it (`~/.config/p2pstack/config.toml`
on Linux), unless `--config` or `P2PSTACK_CONFIG` says otherwise.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import platformdirs
from click.core import ParameterSource

from py_p2pstack.cli.failures import Exit, Failure

APP = "p2pstack"
KEY_FILE = "identity.key"  # in the data directory
PSK_FILE = "swarm.key"  # there too
SCHEMA = 1  # of everything --json writes
MAX_CONFIG = 1024 * 1024  # bytes
MAX_PREFIX = 100  # characters
PRIVATE = "/p2pstack"
PUBLIC = "/ipfs"
PUBLIC_BOOTSTRAP = tuple(  # as in go-libp2p-kad-dht: DefaultBootstrapPeers
    f"/dnsaddr/bootstrap.libp2p.io/p2p/{peer}"
    for peer in (
        "QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN",
        "QmQCU2EcMqAqQPR2i9bChDtGNJchTbq5TbXJJ16u19uLTa",
        "QmbLHAnMoJPWSCR5Zhtx6BHJX9KiKNN6tpvbUcqanj75Nb",
        "QmcZf59bWwK5XFi76CZX8cbJ4BhTzzA3gU1ZjYZcYW3dwt",
    )
)
Decorator = Callable[[Any], Any]


class ConfigFile:
    """The config file, read when a setting is first looked for in it."""

    def __init__(self, path: Path | None = None) -> None:
        self.given = path is not None
        self.path = path or platformdirs.user_config_path(APP, appauthor=False) / "config.toml"
        self._values: Mapping[str, object] | None = None

    def get(self, name: str) -> object:
        """The value of an option; None if the file does not tell. Raises Failure for a file that is none."""
        if self._values is None:
            self._values = self._read()
        return self._values.get(name)

    def _read(self) -> Mapping[str, object]:
        try:
            with self.path.open("rb") as file:
                text = file.read(MAX_CONFIG + 1)
            if len(text) > MAX_CONFIG:
                raise ValueError(f"more than {MAX_CONFIG} bytes")
            values = tomllib.loads(text.decode())
        except FileNotFoundError:
            if self.given:
                raise Failure(Exit.USAGE, f"there is no config file {self.path}", "check --config") from None
            return {}
        except (OSError, ValueError) as fault:
            cause = fault.strerror if isinstance(fault, OSError) else fault
            raise Failure(Exit.USAGE, f"the config file {self.path}: {cause}", "correct the file") from None
        unknown = sorted(set(values) - set(OPTIONS))
        if unknown:
            known = ", ".join(sorted(OPTIONS))
            raise Failure(Exit.USAGE, f"the config file {self.path} has an unknown key {unknown[0]!r}", f"use {known}")
        return values


@dataclass(slots=True)
class Root:
    """What the root command hands to the others."""

    config: ConfigFile
    debug: bool = False


class SettingOption(click.Option):
    """An option whose value may come from the config file."""

    def consume_value(self, ctx: click.Context, opts: Mapping[str, Any]) -> tuple[Any, ParameterSource]:
        """Look at flag and environment, then into the config file, then at the default."""
        value, source = super().consume_value(ctx, opts)
        root = ctx.find_root().obj
        if source is ParameterSource.DEFAULT and isinstance(root, Root) and not ctx.resilient_parsing:
            found = root.config.get(self.long_name)
            if found is not None:
                return self._checked(found, root.config.path), ParameterSource.DEFAULT_MAP
        return value, source

    @property
    def long_name(self) -> str:
        """The option without its dashes."""
        return next(name for name in self.opts if name.startswith("--")).removeprefix("--")

    def _checked(self, found: object, path: Path) -> object:
        """What TOML gave, as click would have got it from the command line."""
        if self.multiple:
            items = found if isinstance(found, list) else [found]
            if all(isinstance(item, str) for item in items):
                return tuple(items)
        elif self.is_flag:
            if isinstance(found, bool):
                return found
        elif isinstance(found, (str, int, float)) and not isinstance(found, bool):
            return str(found)
        raise Failure(
            Exit.USAGE, f"the config file {path}: {self.long_name} cannot be {found!r:.80}", "correct the file"
        )


def _network(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """The protocol prefix of a network."""
    if value == "ipfs":
        return PUBLIC
    if not value.startswith("/") or value.endswith("/") or not value.isprintable() or len(value) > MAX_PREFIX:
        raise click.BadParameter(f"{value!r} is no network: write ipfs, or a protocol prefix such as {PRIVATE}")
    return value


def _addresses(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """Multiaddrs; those to bootstrap from end in `/p2p/<peer id>`."""
    from py_p2pstack import InvalidAddress, Multiaddr, PeerInfo

    for value in values:
        try:
            if param.name == "bootstrap":
                PeerInfo.parse(value)
            else:
                Multiaddr.parse(value)
        except InvalidAddress as fault:
            raise click.BadParameter(f"{value!r}: {fault}") from None
    return values


def _seconds(ctx: click.Context, param: click.Parameter, value: float) -> float:
    """A time; `nan` is none, though a number."""
    if value != value:
        raise click.BadParameter("nan is no time")
    return value


def _psk(ctx: click.Context, param: click.Parameter, value: Path | None) -> bytes | None:
    """The key of a private network, from its file."""
    if value is None:
        return None
    from py_p2pstack import InvalidKey
    from py_p2pstack.transports.pnet.psk import load_psk

    try:
        return load_psk(value)
    except OSError as fault:
        raise click.BadParameter(f"{value}: {fault.strerror}") from None
    except InvalidKey as fault:
        raise click.BadParameter(f"{value}: {fault}; make one with p2pstack keygen --type psk") from None


def _option(*names: str, **details: Any) -> Decorator:
    long_name = next(name for name in names if name.startswith("--")).removeprefix("--")
    details.setdefault("envvar", f"P2PSTACK_{long_name.upper().replace('-', '_')}")
    return click.option(*names, cls=SettingOption, show_envvar=False, **details)


OPTIONS: Mapping[str, Decorator] = {
    "bootstrap": _option(
        "--bootstrap", "-b", multiple=True, callback=_addresses, metavar="MULTIADDR",
        help="A peer to join the network by; may be given more than once.",
    ),
    "network": _option(
        "--network", callback=_network, default=PRIVATE, show_default=True, metavar="PREFIX|ipfs",
        help="Which network: a protocol prefix, or ipfs for the public one.",
    ),
    "psk": _option(
        "--psk", type=click.Path(dir_okay=False, path_type=Path), callback=_psk, metavar="FILE",
        help="The key of a private network: only its members are talked to.",
    ),
    "namespace": _option("--namespace", default="v", show_default=True, help="The namespace of a bare KEY."),
    "quorum": _option(
        "--quorum", type=click.IntRange(min=0), metavar="N",
        help="put: how many peers must keep the value (1). get, search: enough after so many answers (0: ask all).",
    ),
    "timeout": _option(
        "--timeout", type=click.FloatRange(min=0, min_open=True), callback=_seconds, default=60.0, show_default=True,
        metavar="SECONDS",
        help="How long it may take (ping: each).",
    ),
    "data-dir": _option(
        "--data-dir", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
        help="Where a node keeps its identity and data, and where its control socket is.",
    ),
    "json": _option("--json", is_flag=True, help="One JSON object, or one a line."),
    "trace": _option("--trace", is_flag=True, help="Draw the lookup live; with --json, tell every event in a line."),
    "verbose": _option("--verbose", "-v", is_flag=True, help="Tell more, on standard error."),
    "quiet": _option("--quiet", "-q", is_flag=True, help="No progress on standard error."),
    "backend": _option(
        "--backend", type=click.Choice(["asyncio", "trio"]), default="asyncio", show_default=True,
        help="The event loop to run on.",
    ),
    "listen": _option(
        "--listen", "-l", multiple=True, callback=_addresses, default=("/ip4/0.0.0.0/tcp/0",),
        show_default=True, metavar="MULTIADDR", help="Where to listen; may be given more than once.",
    ),
    "announce": _option(
        "--announce", multiple=True, callback=_addresses, metavar="MULTIADDR",
        help="What to tell others instead of where we listen.",
    ),
    "mode": _option(
        "--mode", type=click.Choice(["server", "client", "auto", "auto-server"]), default="server", show_default=True,
        help="A server answers others, a client only asks, auto finds out whether it can serve (so on ipfs).",
    ),
}  # fmt: skip
"""Every option that is a setting, by the name it has in the config file."""


def options(*names: str) -> Decorator:
    """Decorate a command with some of OPTIONS, in this order."""

    def decorate(command: Any) -> Any:
        for name in reversed(names):
            command = OPTIONS[name](command)
        return command

    return decorate


def data_dir(given: Path | None) -> Path:
    """The data directory: the one given, or the platform's for this program."""
    return given or platformdirs.user_data_path(APP, appauthor=False)


def bootstrap_of(network: str, given: Sequence[str]) -> tuple[str, ...]:
    """The bootstrap peers: those given; the public network has some of its own."""
    return tuple(given) or (PUBLIC_BOOTSTRAP if network == PUBLIC else ())
