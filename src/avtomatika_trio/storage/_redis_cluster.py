"""The nodes of a cluster: which one has which keys, and how that is found out."""

import threading
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import trio
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import ResponseError

from avtomatika_trio.errors import StorageUnavailable
from avtomatika_trio.storage._redis_faults import Verdict, judge
from avtomatika_trio.storage._redis_link import Broken, Denied, Link, open_link
from avtomatika_trio.storage._redis_node import MOST_REDIRECTS, Node
from avtomatika_trio.storage._redis_request import Request
from avtomatika_trio.storage._redis_url import Place, RedisAddress

#: So many other nodes are asked for the map when one is lost, before it is tried again.
_MOST_ASKED = 3


class Cluster:
    """The nodes of a cluster and the map of its slots.

    The map is learned from whoever is connected to, and corrected by what nodes reply.  It is
    read without the lock: a wrong entry costs a redirection.
    """

    follows_master = False

    def __init__(self, address: RedisAddress, token: trio.lowlevel.TrioToken) -> None:
        self._address = address
        self._token = token
        self._lock = threading.Lock()
        self._closed = False
        self._nodes: dict[Place, Node] = {}
        self._owners: list[Place | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        self._asked = 0

    def submit(self, request: Request, key: str) -> None:
        request.slot = key_slot(key.encode())
        node = self._node(self._owners[request.slot] or self._address.places[0])
        if node is None:
            request.error = StorageUnavailable("the storage can't have another thread")
            self._token.run_sync_soon(request.tell)
        else:
            node.put(request)

    def fault(self) -> str | None:
        """Of the nodes that own something; others may stay dead."""
        owners = set(self._owners)
        faults = (it.fault for it in self.nodes() if it.place in owners or owners == {None})
        return next((it for it in faults if it is not None), None)

    def nodes(self) -> list[Node]:
        with self._lock:
            return list(self._nodes.values())

    def close(self) -> list[Node]:
        self._closed = True
        return self.nodes()

    def connect(self, node: Node) -> Link:
        link = open_link(self._address, node.place)
        if None in self._owners:
            try:
                self._learn(link)
            except BaseException:
                link.close()
                raise
        return link

    def moved(self, request: Request, place: str, node: Node) -> None:
        host, _, port = place.rpartition(":")
        target = (host.strip("[]") or node.place[0], int(port))
        if not request.asking:
            self._owners[request.slot] = target
        if request.redirects > MOST_REDIRECTS or target == node.place:
            request.redirects = 0
            request.asking = False
            node.put_off(request, "the nodes do not agree on which of them has a key")
        else:
            (self._node(target) or node).put(request)

    def returned(self, request: Request, node: Node) -> None:
        (self._node(self._owners[request.slot] or node.place) or node).put(request)

    def lost(self, node: Node, requests: Iterable[Request]) -> list[Request]:
        """Ask the others who has the keys of *node* now."""
        self._ask_others(node)
        stay: list[Request] = []
        for request in requests:
            owner = self._owners[request.slot]
            other = None if owner in (None, node.place) else self._node(owner)
            if other is None:
                stay.append(request)
            else:
                request.asking = False
                other.put(request)
        return stay

    def _node(self, place: Place) -> Node | None:
        """The node at *place*; None if it is new and can't be made (any more)."""
        node = self._nodes.get(place)
        if node is None:
            with self._lock:
                node = self._nodes.get(place)
                if node is None and not self._closed:
                    with suppress(RuntimeError):  # there are too many threads already
                        node = self._nodes[place] = Node(place, self, self._token)
        return node

    def _ask_others(self, lost: Node) -> None:
        known = {*self._address.places, *self._owners, *(it.place for it in self.nodes())}
        others = sorted(it for it in known if it not in (None, lost.place))
        first = self._asked
        self._asked += 1  # another one first next time: this one may be dead, too
        for number in range(min(_MOST_ASKED, len(others))):
            try:
                link = open_link(self._address, others[(first + number) % len(others)])
                try:
                    self._learn(link)
                finally:
                    link.close()
            except Exception:  # noqa: BLE001, S112 - whatever it replies, it is of no use
                continue
            return

    def _learn(self, link: Link) -> None:
        """Have the map of slots that the server at *link* has.

        Raises:
            Broken: it has none at present.
            Denied: it is in no cluster.
        """
        [reply] = link.ask(("CLUSTER", "SLOTS"))
        if isinstance(reply, ResponseError):
            verdict, text = judge(reply)
            if verdict is Verdict.AGAIN:
                raise Broken(text)
            raise Denied(f"{text} (is it a cluster? redis:// is for one server)")
        owners = list(self._owners)
        for first, last, (host, port, *_), *_ in _sound(reply):
            place = (host.decode() if host else link.place[0], port)
            owners[first : last + 1] = [place] * (last - first + 1)
        self._owners = owners


def _sound(reply: Any) -> list[Any]:
    """The ranges whose master is known."""
    return [it for it in reply if it[2][0] != b"?"]
