"""The command `avtomatika`, but a commit to Redis does not look at what it has read.

For `tests.drills.cluster --unfenced`, which has to find out that this goes wrong.
"""

import sys
from unittest import mock

from avtomatika_trio.cli import main
from avtomatika_trio.storage import _redis_commits
from avtomatika_trio.storage._redis_ledger import RedisLedger
from avtomatika_trio.storage._redis_step import Command


def no_checks(ledger: RedisLedger) -> list[Command]:
    """In the place of `checks_of`."""
    del ledger
    return []


if __name__ == "__main__":
    with mock.patch.object(_redis_commits, "checks_of", no_checks):
        sys.exit(main())
