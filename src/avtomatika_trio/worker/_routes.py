"""By which link something is said when the one that it belongs to cannot be reached.

Orchestrators of one cluster share a storage, so what one of them issued any of them can take
back, and any of them can take its result.
"""

from collections.abc import Sequence

from avtomatika_trio.worker._link import Link


class Routes:
    """All links of a worker, in the order of preference."""

    def __init__(self, links: Sequence[Link]) -> None:
        self.links = tuple(links)
        self._by_url = {link.url: link for link in links}

    def home(self, url: str) -> Link | None:
        """The link to the orchestrator at *url*, if the worker is set up to talk to it."""
        return self._by_url.get(url)

    def best(self, cluster_id: str, home: str) -> Link | None:
        """The link for what the orchestrator at *home*, of that cluster, has issued.

        Home if it can be used, else the first of its cluster that can, else home all the same;
        None if nobody of that cluster is there.
        """
        fitting = [link for link in self.links if link.serves(cluster_id)]
        at_home = [link for link in fitting if link.url == home]
        usable = [link for link in (*at_home, *fitting) if link.is_usable]
        return next(iter((*usable, *at_home, *fitting)), None)

    @property
    def all_registered(self) -> bool:
        """Whether every orchestrator has told to which cluster it belongs."""
        return all(link.terms is not None for link in self.links)

    def are_there_any(self, cluster_id: str) -> bool:
        """Whether one of the orchestrators belongs to that cluster, as far as they have told."""
        return any(link.serves(cluster_id) for link in self.links)
