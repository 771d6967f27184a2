"""`python -m py_p2pstack`: the command line."""

from py_p2pstack.cli import main

if __name__ == "__main__":
    main()
