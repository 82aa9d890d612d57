"""What a metric is called and what it means, for Prometheus and for the page about metrics."""

from typing import Generic, Literal, TypeVar

import attrs
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import Metric

M = TypeVar("M", Counter, Gauge, Histogram)

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
    buckets: tuple[float, ...] = ()
    """Of a histogram."""

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

    def counter(self, registry: CollectorRegistry) -> Counter:
        """It, to be counted in *registry*."""
        return Counter(self.full_name, self.help, self.labels, registry=registry)

    def gauge(self, registry: CollectorRegistry) -> Gauge:
        """It, to be set in *registry*."""
        return Gauge(self.full_name, self.help, self.labels, registry=registry)

    def histogram(self, registry: CollectorRegistry) -> Histogram:
        """It, to be observed in *registry*."""
        return Histogram(
            self.full_name, self.help, self.labels, buckets=self.buckets, registry=registry
        )


class ByLabels(Generic[M]):
    """What a metric with labels counts by each of them, found once.

    Every commit and request comes by here, and to find it takes longer than to count.
    """

    def __init__(self, metric: M) -> None:
        self._metric: M = metric
        self._found: dict[tuple[str, ...], M] = {}

    def at(self, *labels: str) -> M:
        """That of *labels*."""
        found = self._found.get(labels)
        if found is None:
            found = self._found[labels] = self._metric.labels(*labels)
        return found


def counter(name: str, meaning: str, *labels: str) -> Family:
    """One that grows from the start of the process on."""
    return Family(name=name, kind="counter", meaning=meaning, labels=labels)


def gauge(name: str, meaning: str, *labels: str, scope: Scope = "process") -> Family:
    """One that is what it is now."""
    return Family(name=name, kind="gauge", meaning=meaning, labels=labels, scope=scope)


def histogram(name: str, meaning: str, buckets: tuple[float, ...], *labels: str) -> Family:
    """One that counts by size, up to each of *buckets*."""
    return Family(name=name, kind="histogram", meaning=meaning, labels=labels, buckets=buckets)
