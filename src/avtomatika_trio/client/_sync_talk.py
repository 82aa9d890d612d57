"""Plans carried out without Trio: it sends, sleeps and reads, and decides nothing."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx

from avtomatika_trio.client._http import FAULTS, fault_of, reply_of, request_of
from avtomatika_trio.client._plans import Ask, Done, Fault, Give, Pause, Plan, Read, Reply


class Talk:
    """A plan that is carried out."""

    def __init__(
        self,
        http: httpx.Client,
        plan: Plan[Any],
        timeout_seconds: float,
        sleep: Callable[[float], None],
    ) -> None:
        self._http = http
        self._plan = plan
        self._timeout_seconds = timeout_seconds
        self._sleep = sleep
        self._stream: httpx.Response | None = None
        self._chunks: Iterator[bytes] = iter(())

    def advance(self) -> Give | Done:
        """Take steps until one gives something, or there are no more."""
        heard: Reply | Fault | bytes | None = None
        while True:
            try:
                step = self._plan.send(heard)
            except StopIteration as stop:
                return Done(stop.value)
            match step:
                case Give():
                    return step
                case Pause(seconds):
                    heard = self._sleep(seconds)
                case Read():
                    heard = self._read()
                case Ask():
                    heard = self._send(step)

    def close(self) -> None:
        """Leave nothing open."""
        self._plan.close()
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def _send(self, ask: Ask) -> Reply | Fault:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        request = request_of(self._http.build_request, ask, self._timeout_seconds)
        try:
            answer = self._http.send(request, stream=ask.stream)
            if ask.stream and answer.is_success:
                self._stream, self._chunks = answer, answer.iter_bytes()
                return reply_of(answer, b"")
            try:
                return reply_of(answer, answer.read())
            finally:
                answer.close()
        except FAULTS as exc:
            return fault_of(exc)

    def _read(self) -> bytes | None:
        try:
            return next(self._chunks, None)
        except FAULTS:
            return None
