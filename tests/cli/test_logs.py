"""The log of the long-running commands, beside what an author has set up."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import logging, sys
from avtomatika_trio.cli._logs import start_logging
logging.basicConfig(level="ERROR", format="own %(message)s")
logging.getLogger("httpx").setLevel("DEBUG")
start_logging("INFO", "json")
root, httpx, httpcore = map(logging.getLogger, (None, "httpx", "httpcore"))
assert sys.excepthook is sys.__excepthook__
print(root.level, len(root.handlers), httpx.level, httpcore.level)
logging.error("line")
"""


def test_what_an_author_has_set_up_stays() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    assert ended.stdout == "40 1 10 30\n"
    assert ended.stderr == "own line\n"


NOISY = """
import logging, threading, warnings
from avtomatika_trio.cli._logs import start_logging
start_logging("INFO", "json")
log = logging.getLogger("mine")
log.info("%d fits not", "a text")
class Mute:
    def __str__(self): raise ZeroDivisionError("no words")
log.info("of %s", Mute())
log.info("here", stack_info=True)
warnings.warn("it is old", DeprecationWarning, stacklevel=1)
def fail(): raise KeyError("first\\nsecond")
thread = threading.Thread(target=fail, name="reader")
thread.start()
thread.join()
quiet = threading.Thread(target=exit)
quiet.start()
quiet.join()
raise ExceptionGroup("both", [ValueError("a"), OSError("b")])
"""


def test_every_line_is_json_whatever_is_logged_and_whatever_ends_it() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", NOISY], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    assert [(it["level"], it["logger"]) for it in lines] == [
        ("INFO", "mine"),
        ("INFO", "mine"),
        ("INFO", "mine"),
        ("WARNING", "py.warnings"),
        ("ERROR", "avtomatika_trio.cli._logs"),
        ("CRITICAL", "avtomatika_trio.cli._logs"),
    ]
    unfit, mute, stack, old, thread, end = lines
    assert unfit["msg"].startswith("'%d fits not' does not fit its arguments: TypeError: %d format")
    assert mute["msg"] == "'of %s' does not fit its arguments: ZeroDivisionError: no words"
    assert stack["stack"].startswith("Stack (most recent call last):")
    assert "DeprecationWarning: it is old" in old["msg"]
    assert thread["msg"] == "thread reader has ended: KeyError"
    assert "KeyError" in thread["exc"]
    assert end["msg"] == "the process ends: ExceptionGroup"
    assert "ValueError: a" in end["exc"]
    assert "OSError: b" in end["exc"]


@pytest.mark.parametrize(("form", "is_json"), [("json", True), ("text", False)])
def test_why_a_command_ends_is_told_as_all_else_is(
    tmp_path: Path, form: str, *, is_json: bool
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "avtomatika_trio", "serve", "--storage", "memory:"]
        ended = subprocess.run(
            [*command, "--host", "127.0.0.1", "--port", port, "--log-format", form],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            check=False,
        )
    assert ended.returncode == 1
    line = ended.stderr.splitlines()[-1]
    if is_json:
        told = [json.loads(it) for it in ended.stderr.splitlines()][-1]
        assert told["level"] == "ERROR"
        line = f"avtomatika: {told['msg']}"
    assert line.startswith(f"avtomatika: cannot listen on 127.0.0.1:{port}")
