"""Which server a request goes to, and what happens when it is not there any more."""

from collections.abc import Iterable
from typing import Protocol

import trio

from avtomatika_trio.storage._redis_cluster import Cluster
from avtomatika_trio.storage._redis_link import Link, open_link
from avtomatika_trio.storage._redis_master import SentinelMaster
from avtomatika_trio.storage._redis_node import Node
from avtomatika_trio.storage._redis_request import Request
from avtomatika_trio.storage._redis_url import RedisAddress


class Routes(Protocol):
    """The nodes of a bridge."""

    def submit(self, request: Request, key: str) -> None:
        """Hand *request* to the node that has *key*."""

    def fault(self) -> str | None:
        """Why the storage can't be used at present."""

    def nodes(self) -> list[Node]:
        """Those that there are."""

    def close(self) -> list[Node]:
        """Make no more nodes; returns those that there are."""


class OneServer:
    """Everything goes to one server."""

    follows_master = False

    def __init__(self, address: RedisAddress, token: trio.lowlevel.TrioToken) -> None:
        self._address = address
        self._node = Node(address.places[0], self, token)

    def submit(self, request: Request, key: str) -> None:  # noqa: ARG002
        self._node.put(request)

    def fault(self) -> str | None:
        return self._node.fault

    def nodes(self) -> list[Node]:
        return [self._node]

    def close(self) -> list[Node]:
        return [self._node]

    def connect(self, node: Node) -> Link:
        return open_link(self._address, node.place)

    def moved(self, request: Request, place: str, node: Node) -> None:
        node.refuse(request, f"it belongs to a cluster, as {place} does; give redis+cluster:")

    def returned(self, request: Request, node: Node) -> None:
        node.put(request)

    def lost(self, node: Node, requests: Iterable[Request]) -> list[Request]:  # noqa: ARG002
        return list(requests)


class Master(OneServer):
    """Everything goes to the server that the sentinels call the master."""

    follows_master = True

    def __init__(self, address: RedisAddress, token: trio.lowlevel.TrioToken) -> None:
        self._master = SentinelMaster(address)
        super().__init__(address, token)
        self._node.name = f"the redis that sentinels call {address.service}"

    def connect(self, node: Node) -> Link:  # noqa: ARG002
        return self._master.connect()


def routes_for(address: RedisAddress, token: trio.lowlevel.TrioToken) -> Routes:
    """The routes to what *address* is."""
    match address.kind:
        case "single":
            return OneServer(address, token)
        case "sentinel":
            return Master(address, token)
        case "cluster":
            return Cluster(address, token)
