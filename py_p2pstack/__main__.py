"""`python -m py_p2pstack`: the command line."""

from py_p2pstack.cli import entry_point

if __name__ == "__main__":
    entry_point()
