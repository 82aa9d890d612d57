"""Where tasks come from, and what goes back there besides their results."""

import attrs

from avtomatika_trio.worker._link import Link
from avtomatika_trio.worker._progress import ProgressReports
from avtomatika_trio.worker._returns import Returns


@attrs.frozen(kw_only=True, eq=False)
class Home:
    """One orchestrator, as the attempts that it issued see it."""

    link: Link
    returns: Returns
    """Takes what will not be done here."""
    progress: ProgressReports
    """Takes what handlers say about how far they are."""
