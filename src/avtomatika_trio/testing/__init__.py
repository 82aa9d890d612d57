"""For tests: a cluster in one process, and what must hold in every storage.

Everything runs on Trio's clock, so that under `trio.testing.MockClock` hours of outages pass
in a fraction of a second.
"""

from avtomatika_trio.testing._cluster import (
    Cluster as Cluster,
    Orchestrator as Orchestrator,
    WorkerMachine as WorkerMachine,
    open_cluster as open_cluster,
)
from avtomatika_trio.testing._network import (
    Call as Call,
    Fault as Fault,
    Matches as Matches,
    Network as Network,
    Rule as Rule,
    Seen as Seen,
    calls as calls,
    open_network as open_network,
)
from avtomatika_trio.testing.invariants import find_violations as find_violations

__all__ = [
    "Call",
    "Cluster",
    "Fault",
    "Matches",
    "Network",
    "Orchestrator",
    "Rule",
    "Seen",
    "WorkerMachine",
    "calls",
    "find_violations",
    "open_cluster",
    "open_network",
]
