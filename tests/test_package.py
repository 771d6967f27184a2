"""Claims about the package as a whole: its menu, its cost to import, its manifest."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import py_p2pstack

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", py_p2pstack.__all__)
def test_each_name_of_the_menu_is_there(name: str) -> None:
    assert getattr(py_p2pstack, name) is not None
    assert name in dir(py_p2pstack)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing_of_that_name"):
        getattr(py_p2pstack, "nothing_of_that_name")  # noqa: B009 - the lookup is the test


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import sys, py_p2pstack; print(sorted({'anyio', 'cryptography', 'google.protobuf', 'dns'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_a_host_needs_no_event_loop_library_but_its_own() -> None:
    code = "import sys, py_p2pstack; py_p2pstack.Host; print(sorted({'trio', 'dns', 'coincurve'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_the_core_install_has_at_most_ten_dependencies() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert len(project["dependencies"]) <= 10
    assert project["version"] == py_p2pstack.__version__


def test_the_package_is_typed() -> None:
    assert (ROOT / "py_p2pstack" / "py.typed").exists()
