"""What many submissions leave behind when one of them fails."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tests.client.orchestrators import KINDS, InProcess, open_client
from tests.orchestrator.clients import make_context

from avtomatika_trio.errors import InvalidMessage, OrchestratorUnavailable, Refused


class Failing(InProcess):
    """The second submission comes to *end*."""

    def __init__(self, end: httpx.Response | Exception) -> None:
        super().__init__(make_context())
        self.end = end
        self.calls = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self._end() or super().handle_request(request)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return self._end() or await super().handle_async_request(request)

    def _end(self) -> httpx.Response | None:
        self.calls += 1
        if self.calls < 2:
            return None
        if isinstance(self.end, Exception):
            raise self.end
        return httpx.Response(self.end.status_code, content=self.end.content)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("end", "error"),
    [
        (httpx.ReadError("reset"), OrchestratorUnavailable),
        (httpx.Response(400, json={"code": "c", "detail": "d"}), Refused),
        (httpx.Response(429, json={"code": "quota_exceeded", "detail": "d"}), Refused),
    ],
)
def test_the_jobs_that_were_submitted_before_a_failure_are_told(
    kind: str, end: httpx.Response | Exception, error: type[Any]
) -> None:
    transport = Failing(end)
    with (
        open_client(kind, transport, retry_seconds=0) as client,
        pytest.raises(error, match="1000 jobs were submitted before") as caught,
    ):
        client.submit_many("walk", [{}] * 1500)
    with open_client("sync", InProcess(transport.context)) as client:
        listed = [job.id for job in client.list()]
    assert list(caught.value.submitted) == listed[::-1]


@pytest.mark.parametrize("kind", KINDS)
def test_data_that_is_not_json_is_told_with_its_place_and_the_jobs_before_it(kind: str) -> None:
    def data() -> Iterator[Any]:
        yield from ({"n": n} for n in range(1200))
        yield {"n": {1}}

    with open_client(kind, InProcess(make_context())) as client:
        with pytest.raises(InvalidMessage) as caught:
            client.submit_many("walk", data())
        assert [it.path for it in caught.value.problems] == ["$[1200].initial_data"]
        assert len(caught.value.submitted) == 1000
        with pytest.raises(InvalidMessage, match=r"^\$\[0\]\.initial_data: must be a dict") as none:
            client.submit_many("walk", {"a": 1})
        assert none.value.submitted == ()
