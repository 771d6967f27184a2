"""Hold the coverage of what decides: at least 95 % of the lines of machines and codecs, in the last run."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from fnmatch import fnmatch
from pathlib import Path

BAR = 95.0
DECIDING = (
    "py_p2pstack/addresses/*.py",
    "py_p2pstack/identity/*.py",
    "py_p2pstack/kademlia/*.py",
    "py_p2pstack/muxers/*/*.py",
    "py_p2pstack/muxers/streams.py",
    "py_p2pstack/muxers/stream_state.py",
    "py_p2pstack/security/*/*.py",
    "py_p2pstack/upgrade/multistream.py",
    "py_p2pstack/wire/*.py",
    "py_p2pstack/**/codec.py",
    "py_p2pstack/protocols/*/codec.py",
    "py_p2pstack/protocols/dht/content.py",
    "py_p2pstack/protocols/dht/handlers.py",
    "py_p2pstack/protocols/dht/key_text.py",
    "py_p2pstack/protocols/dht/optimistic.py",
    "py_p2pstack/protocols/dht/records/*.py",
    "py_p2pstack/protocols/dht/rfc3339.py",
    "py_p2pstack/protocols/dht/tally.py",
    "py_p2pstack/protocols/dht/validators.py",
    "py_p2pstack/protocols/dht/storage/rows.py",
    "py_p2pstack/protocols/identify/observed.py",
)


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        report = Path(name) / "coverage.json"
        subprocess.run([sys.executable, "-m", "coverage", "json", "-q", "-o", str(report)], check=True)
        files = json.loads(report.read_text(encoding="utf-8"))["files"]
    low = []
    for path, data in sorted(files.items()):
        if any(fnmatch(path.replace("\\", "/"), pattern) for pattern in DECIDING):
            summary = data["summary"]
            lines = summary["num_statements"]
            percent = 100.0 * summary["covered_lines"] / lines if lines else 100.0
            if percent < BAR:
                low.append(f"{path}: {percent:.1f} % of lines; missing {data['missing_lines']}")
    for line in low:
        print(line, file=sys.stderr)
    print(f"coverage of machines and codecs: {'below' if low else 'at least'} {BAR:g} % of lines in each")
    return bool(low)


if __name__ == "__main__":
    sys.exit(main())
