"""For tests: a cluster in one process, and what must hold in every storage.

`cluster`, `run` and `run_job` are for tests of blueprints and workers; the rest is for tests of
what is beneath them.

Everything runs on Trio's clock, so that under `trio.testing.MockClock` hours of outages pass
in a fraction of a second.
"""

from avtomatika_trio.testing._blobs_memory import MemoryBlobs as MemoryBlobs
from avtomatika_trio.testing._clock import run as run
from avtomatika_trio.testing._cluster import Cluster as Cluster, open_cluster as open_cluster
from avtomatika_trio.testing._ended_job import EndedJob as EndedJob
from avtomatika_trio.testing._fakes import LOST as LOST
from avtomatika_trio.testing._faults import (
    Call as Call,
    Fault as Fault,
    Matches as Matches,
    Rule as Rule,
    Seen as Seen,
    calls as calls,
)
from avtomatika_trio.testing._kit import cluster as cluster, run_job as run_job
from avtomatika_trio.testing._machines import (
    Orchestrator as Orchestrator,
    WorkerMachine as WorkerMachine,
)
from avtomatika_trio.testing._network import Network as Network, open_network as open_network
from avtomatika_trio.testing._rig import Rig as Rig
from avtomatika_trio.testing._streams import StreamNetwork as StreamNetwork
from avtomatika_trio.testing._wires import (
    Break as Break,
    Cut as Cut,
    Exchange as Exchange,
    Way as Way,
)
from avtomatika_trio.testing.invariants import find_violations as find_violations

__all__ = [
    "LOST",
    "Break",
    "Call",
    "Cluster",
    "Cut",
    "EndedJob",
    "Exchange",
    "Fault",
    "Matches",
    "MemoryBlobs",
    "Network",
    "Orchestrator",
    "Rig",
    "Rule",
    "Seen",
    "StreamNetwork",
    "Way",
    "WorkerMachine",
    "calls",
    "cluster",
    "find_violations",
    "open_cluster",
    "open_network",
    "run",
    "run_job",
]
