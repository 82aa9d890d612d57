"""One partition of the storage in Redis, as one process knows it."""

from collections.abc import Callable

import msgspec

from avtomatika_trio.storage._clock import Clock
from avtomatika_trio.storage._redis_bridge import RedisBridge
from avtomatika_trio.storage._redis_claims import Claims
from avtomatika_trio.storage._redis_clock import PartitionClock
from avtomatika_trio.storage._redis_commits import Commits
from avtomatika_trio.storage._redis_fetch import Elsewhere
from avtomatika_trio.storage._redis_keys import Keys
from avtomatika_trio.storage._redis_schema import Opened
from avtomatika_trio.storage._signals import News


class RedisPartition:
    """Its time, its commits and its claims.

    Args:
        bridge: To the server.
        keys: Of the partition.
        opened: What it has said of itself.
        instead: A clock to go by instead of Redis' own; for tests.
        channel: Of news.
        tell: Told, in order, of what this process has committed in it.
        look_again: Called when there may be something to claim in it.
        elsewhere: Where the record of an instance is.
    """

    def __init__(
        self,
        bridge: RedisBridge,
        keys: Keys,
        opened: Opened,
        instead: Clock | None,
        *,
        channel: str,
        tell: Callable[["RedisPartition", News], None],
        look_again: Callable[["RedisPartition"], None],
        elsewhere: Elsewhere,
    ) -> None:
        self.name = keys.partition
        self.keys = keys
        self.clock = PartitionClock(instead, opened.latest)
        self.clock.heard(opened.time)
        self.commits = Commits(
            bridge,
            keys,
            self.clock,
            opened.cluster_id,
            lambda news: tell(self, news),
            channel=channel,
            elsewhere=elsewhere,
        )
        released = {"token": "", "cluster": opened.cluster_id, "place": self.name, "ready": True}
        self.claims = Claims(
            bridge,
            keys,
            self.clock,
            self.commits.fresh_token,
            channel,
            msgspec.json.encode(released),
            lambda: look_again(self),
            self.commits.requests,
            self.commits.learn,
        )
        self.ticked_at = float("-inf")
        """When, by its time, the janitor of this process was last sent here."""
