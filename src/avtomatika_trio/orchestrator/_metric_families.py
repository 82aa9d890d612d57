"""What a metric is called and what it means, for Prometheus and for the page about metrics."""

from typing import Literal

import attrs
from prometheus_client.core import Metric

Kind = Literal["counter", "gauge", "histogram"]

Scope = Literal["process", "storage"]

_PREFIX = "avtomatika_"


@attrs.frozen(kw_only=True)
class Family:
    """A metric with all of its labels."""

    name: str
    """With its unit, without our prefix."""
    kind: Kind
    meaning: str
    labels: tuple[str, ...] = ()
    scope: Scope = "process"
    """Whether each orchestrator tells its own, or all of a storage tell the same."""

    @property
    def full_name(self) -> str:
        """As it is told."""
        return _PREFIX + self.name

    @property
    def help(self) -> str:
        """What it means, and whose it is."""
        whose = "Of this process." if self.scope == "process" else "Of the storage."
        return f"{self.meaning} {whose}"

    def metric(self) -> Metric:
        """It, without samples."""
        return Metric(self.full_name, self.help, self.kind)
