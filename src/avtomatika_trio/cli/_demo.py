"""`avtomatika demo`: a real job, end to end."""

from argparse import Namespace
from pathlib import Path


def run(options: Namespace) -> int:
    """Hand over to the demo."""
    from avtomatika_trio.demo import run_demo

    return run_demo(
        folder=None if options.folder is None else Path(options.folder),
        kill=options.kill,
        root=None if options.root is None else Path(options.root),
    )
