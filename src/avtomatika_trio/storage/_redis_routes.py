"""Which server a request goes to, and what happens when it is not there any more."""

from collections.abc import Iterable
from typing import Protocol

import trio

from avtomatika_trio.storage._redis_link import Link, open_link
from avtomatika_trio.storage._redis_node import Node, Request
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
        node.put_off(request, f"it is one node of a cluster, and another one ({place}) has the key")

    def returned(self, request: Request, node: Node) -> None:
        node.put(request)

    def lost(self, node: Node, requests: Iterable[Request]) -> list[Request]:  # noqa: ARG002
        return list(requests)


def routes_for(address: RedisAddress, token: trio.lowlevel.TrioToken) -> Routes:
    return OneServer(address, token)
