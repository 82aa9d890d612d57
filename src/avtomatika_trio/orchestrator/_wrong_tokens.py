"""Who shows a wrong token again and again is answered ever more slowly.

The right token is never slowed down: behind one address there may be a whole fleet, and one
worker with an old token must not shut it out.  Tokens have 128 bits and more, so that guessing
is hopeless at any speed; this is against floods, of load and of lines in the log.
"""

import ipaddress
import math
from collections import OrderedDict
from http import HTTPStatus

import attrs
import trio

from avtomatika_trio.orchestrator._http import HttpProblem

#: So many are answered at once, within `_PERIOD_SECONDS`; further ones `_APART_SECONDS` apart.
_AT_ONCE = 10
_PERIOD_SECONDS = 60.0
_APART_SECONDS = 1.0

#: So many of one address wait for their answer at most.
_MOST_WAITING = 20

_MOST_ADDRESSES = 10_000


@attrs.define
class _Attempts:
    since: float
    count: int = 0
    next_answer: float = -math.inf
    waiting: int = 0


class WrongTokens:
    """Slows refusals down, address by address."""

    def __init__(self) -> None:
        self._attempts: OrderedDict[str, _Attempts] = OrderedDict()

    async def slow_down(self, address: str) -> None:
        """Wait until a refusal may be sent to *address*.

        Raises:
            HttpProblem: 429; too many of them wait already.
        """
        attempts = self._of(_network(address))
        now = trio.current_time()
        if now - attempts.since > _PERIOD_SECONDS and attempts.next_answer <= now:
            attempts.since, attempts.count = now, 0
        attempts.count += 1
        if attempts.count <= _AT_ONCE:
            return
        attempts.next_answer = max(attempts.next_answer, now) + _APART_SECONDS
        wait = attempts.next_answer - now
        if attempts.waiting >= _MOST_WAITING:
            attempts.next_answer -= _APART_SECONDS
            raise HttpProblem(
                HTTPStatus.TOO_MANY_REQUESTS,
                "too_many_wrong_tokens",
                f"too many wrong tokens from {address}; try again in {math.ceil(wait)} s",
                headers={"retry-after": str(math.ceil(wait))},
            )
        attempts.waiting += 1
        try:
            await trio.sleep(wait)
        finally:
            attempts.waiting -= 1

    def _of(self, network: str) -> _Attempts:
        attempts = self._attempts.get(network)
        if attempts is None:
            attempts = self._attempts[network] = _Attempts(since=trio.current_time())
            while len(self._attempts) > _MOST_ADDRESSES:
                self._attempts.popitem(last=False)
        self._attempts.move_to_end(network)
        return attempts


def _network(address: str) -> str:
    """*address*, or the /64 that it is in: whoever has one IPv6 address has all of these."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    return str(ipaddress.ip_network((parsed, 64), strict=False))
