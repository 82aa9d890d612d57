"""The log of the long-running commands, beside what an author has set up."""

import subprocess
import sys

PROGRAM = """
import logging
from avtomatika_trio.cli._logs import start_logging
logging.basicConfig(level="ERROR", format="own %(message)s")
logging.getLogger("httpx").setLevel("DEBUG")
start_logging("INFO", "json")
root, httpx, httpcore = map(logging.getLogger, (None, "httpx", "httpcore"))
print(root.level, len(root.handlers), httpx.level, httpcore.level)
logging.error("line")
"""


def test_what_an_author_has_set_up_stays() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    assert ended.stdout == "40 1 10 30\n"
    assert ended.stderr == "own line\n"
