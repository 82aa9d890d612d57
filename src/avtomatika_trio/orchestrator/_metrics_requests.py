"""Requests, counted by the templates of their routes and by why they were refused."""

from prometheus_client import CollectorRegistry

from avtomatika_trio.orchestrator._metric_families import ByLabels, counter
from avtomatika_trio.orchestrator._observed import Seen

#: Whoever sends a request may write any word as its method.
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

_AUTH_FAILURES = {
    "token_missing": "client",
    "token_unknown": "client",
    "role_missing": "role",
    "unauthorized": "worker",
    "foreign_worker_id": "worker",
    "signature_refused": "signature",
    "too_many_wrong_tokens": "throttled",
}
"""What the code of an answer says of who sent the request."""

_REQUESTS = counter(
    "http_requests_total",
    "Requests, by the template of their route.",
    *("route", "method", "status"),
)
_REFUSED = counter("auth_failures_total", "Requests refused for who sent them.", "kind")


class RequestCounts:
    """Counts requests in *registry*."""

    families = (_REQUESTS, _REFUSED)

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = ByLabels(_REQUESTS.counter(registry))
        self._refused = ByLabels(_REFUSED.counter(registry))

    def count(self, request: Seen, status: str) -> None:
        """Count a request that was answered with *status*."""
        method = request.method if request.method in _METHODS else "other"
        self._requests.at(request.route, method, status).inc()
        kind = _AUTH_FAILURES.get(request.code or "")
        if kind is not None:
            self._refused.at(kind).inc()
