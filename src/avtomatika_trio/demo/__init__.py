"""The main job, end to end: what `avtomatika demo` runs."""

from avtomatika_trio.demo._run import run_demo as run_demo

__all__ = ["run_demo"]
