"""`python -m avtomatika_trio` is the command `avtomatika`."""

import sys

from avtomatika_trio.cli import main

if __name__ == "__main__":
    sys.exit(main())
