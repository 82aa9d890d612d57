"""The master that sentinels name."""

from avtomatika_trio.storage._redis_link import (
    PATIENCE_SECONDS,
    Broken,
    Denied,
    Link,
    cause,
    open_link,
)
from avtomatika_trio.storage._redis_url import Place, RedisAddress


class SentinelMaster:
    """Finds the master anew for every connection.  For one thread."""

    def __init__(self, address: RedisAddress) -> None:
        self._address = address
        self._sentinels = list(address.places)

    def connect(self) -> Link:
        """Connect to the server that a sentinel calls the master and that says so itself.

        Raises:
            Broken: there is none at present, for all that the sentinels know.
        """
        reasons: list[str] = []
        tried: set[Place] = set()
        for sentinel in tuple(self._sentinels):
            try:
                place = self._ask(sentinel)
                self._sentinels.remove(sentinel)
                self._sentinels.insert(0, sentinel)  # one that answers is asked first
                if place not in tried:
                    tried.add(place)
                    return self._master(place)
            except (Broken, Denied) as exc:
                reasons.append(exc.reason)
        raise Broken("; ".join(dict.fromkeys(reasons)))

    def _ask(self, sentinel: Place) -> Place:
        who = f"the sentinel at {sentinel[0]}:{sentinel[1]}"
        try:
            link = open_link(self._address, sentinel, sentinel=True)
        except (Broken, Denied) as exc:
            raise type(exc)(f"{who}: {exc.reason}") from exc
        try:
            [reply] = link.ask(("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._address.service))
        except OSError as exc:
            raise Broken(f"{who}: {cause(exc, PATIENCE_SECONDS)}") from exc
        finally:
            link.close()
        if not isinstance(reply, list):
            raise Denied(f"{who} knows no service of this name; correct the URL of the storage")
        return reply[0].decode(), int(reply[1])

    def _master(self, place: Place) -> Link:
        who = f"the server at {place[0]}:{place[1]}"
        try:
            link = open_link(self._address, place)
        except (Broken, Denied) as exc:
            raise type(exc)(f"{who}: {exc.reason}") from exc
        try:
            [role] = link.ask(("ROLE",))
        except OSError as exc:
            link.close()
            raise Broken(f"{who}: {cause(exc, PATIENCE_SECONDS)}") from exc
        if isinstance(role, list) and role[0] != b"master":
            link.close()
            raise Broken(f"{who} is a {role[0].decode()} still; no other one is the master yet")
        return link
