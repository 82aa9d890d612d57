"""Where tasks come from, and what goes back there besides their results."""

from typing import NoReturn

import attrs
import trio

from avtomatika_trio._config import WorkerSettings
from avtomatika_trio.worker._event_posts import EventPosts
from avtomatika_trio.worker._link import Link, Noise
from avtomatika_trio.worker._progress import ProgressReports
from avtomatika_trio.worker._requests import Identity
from avtomatika_trio.worker._returns import Returns
from avtomatika_trio.worker._routes import Routes
from avtomatika_trio.worker._snapshot import Holdings


@attrs.frozen(kw_only=True, eq=False)
class Home:
    """One orchestrator, as the attempts that it issued see it."""

    link: Link
    returns: Returns
    """Takes what will not be done here."""
    progress: ProgressReports
    """Takes what handlers say about how far they are."""
    events: EventPosts
    """Takes what they say for the history."""

    @classmethod
    def of(
        cls,
        link: Link,
        routes: Routes,
        holdings: Holdings,
        identity: Identity,
        settings: WorkerSettings,
        noise: Noise,
    ) -> "Home":
        """The orchestrator that *link* leads to."""
        worker_id = identity.worker_id
        return cls(
            link=link,
            returns=Returns(link, routes, holdings, noise),
            progress=ProgressReports(link, routes, worker_id),
            events=EventPosts(
                link, routes, worker_id, noise, is_strict=settings.strict_event_validation
            ),
        )

    async def run(self) -> NoReturn:
        """Bring there what goes back, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.returns.run)
            nursery.start_soon(self.progress.run)
            await self.events.run()
