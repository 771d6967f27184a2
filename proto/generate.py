"""Generate `py_p2pstack/wire/pb` from the .proto files beside this one: `python proto/generate.py [--check]`.

The files lie under the path of the package they become, so that they import each other rightly and cannot collide
with another package's `keys.proto` in the process-wide descriptor pool. With --check nothing is written; the exit
code is 1 when the committed modules differ from what would be generated.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGE = Path("py_p2pstack") / "wire" / "pb"
TARGET = HERE.parent / PACKAGE


def generate(out: Path) -> None:
    """Run protoc with mypy-protobuf over every .proto file."""
    from grpc_tools import protoc

    plugin = Path(sys.executable).with_name("protoc-gen-mypy" + (".exe" if sys.platform == "win32" else ""))
    sources = sorted(path.relative_to(HERE).as_posix() for path in (HERE / PACKAGE).glob("*.proto"))
    code = protoc.main(
        [
            "protoc",
            f"-I{HERE}",
            f"-I{files('grpc_tools') / '_proto'}",
            f"--plugin=protoc-gen-mypy={plugin}",
            f"--python_out={out}",
            f"--mypy_out=quiet:{out}",
            *sources,
        ]
    )
    if code:
        raise SystemExit(code)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare only; exit 1 on a difference")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as name:
        generate(Path(name))
        made = {path.name: path.read_bytes() for path in (Path(name) / PACKAGE).glob("*_pb2.py*")}
    here = {path.name: path.read_bytes() for path in TARGET.glob("*_pb2.py*")}
    if check:
        stale = sorted(name for name in made.keys() | here.keys() if made.get(name) != here.get(name))
        if stale:
            print("out of date (run: make proto): " + ", ".join(stale), file=sys.stderr)
        return bool(stale)
    for name in here.keys() - made.keys():
        (TARGET / name).unlink()
    for name, content in made.items():
        (TARGET / name).write_bytes(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
