"""The orchestrator: takes jobs, walks them through their blueprints, hands tasks out.

`avtomatika serve` runs one; `Orchestrator` puts one into another ASGI server.
"""

from avtomatika_trio.orchestrator._hosted import Orchestrator as Orchestrator

__all__ = ["Orchestrator"]
