"""One thread that speaks with one server: what waits goes out as one batch.

A thousand calls cost a few sends and a few hops between threads, not a thousand.  A
connection that breaks is made anew, and what has no answer is sent again, so whatever goes
this way must be safe to repeat.
"""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Protocol

import trio
from redis.exceptions import ResponseError

from avtomatika_trio.errors import StorageUnavailable
from avtomatika_trio.storage._redis_faults import NOT_MASTER_TEXT, Verdict, judge
from avtomatika_trio.storage._redis_link import PATIENCE_SECONDS, Broken, Denied, Link, cause
from avtomatika_trio.storage._redis_request import Request
from avtomatika_trio.storage._redis_url import Place
from avtomatika_trio.storage._redis_wire import Script, pack

#: A batch is at most so much: bounds how long the first call of it waits.
MOST_PER_BATCH = 500
MOST_BYTES_PER_BATCH = 1024 * 1024

FIRST_PAUSE_SECONDS = 0.02
LONGEST_PAUSE_SECONDS = 0.5

#: After so many redirections a request waits a little: nodes do not agree on where it belongs.
MOST_REDIRECTS = 4

_CLOSED = "the storage is closed"


class Owner(Protocol):
    """What a node needs of those around it; called in the node's thread."""

    def connect(self, node: "Node") -> Link:
        """Raises `Broken` and `Denied`."""

    def moved(self, request: Request, place: str, node: "Node") -> None:
        """Hand *request* to the node at *place*, which owns its key or is `asking`."""

    def returned(self, request: Request, node: "Node") -> None:
        """Hand *request* to the owner of its key."""

    def lost(self, node: "Node", requests: Iterable[Request]) -> list[Request]:
        """*node* can't be reached: those of *requests* that nobody else can take.

        Never raises.
        """

    follows_master: bool
    """Whether `connect` finds another server once this one is no master."""


class Node:
    """A server's thread and the queue in front of it.  Starts at once.

    Attributes:
        name: For people.
        batches: How many have been sent.
        fault: Why the server can't be reached at present; None if it could be last time.
    """

    def __init__(self, place: Place, owner: Owner, token: trio.lowlevel.TrioToken) -> None:
        self.place = place
        self.name = f"redis at {place[0]}:{place[1]}"
        self.fault: str | None = None
        self.batches = 0
        self.ended = trio.Event()
        self._owner = owner
        self._token = token
        self._queue: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._waiting: deque[Request] = deque()
        self._later: list[Request] = []
        self._later_at = 0.0
        self._pause = FIRST_PAUSE_SECONDS
        self._most = MOST_PER_BATCH
        """Commands of the next batch: few after a connection broke, lest the whole of a long
        one be sent again and again over connections that break before its end."""
        self._scripts: dict[str, Script] = {}
        self._link: Link | None = None
        self._closing = False
        self._stop = threading.Event()
        self._answered: list[Request] = []
        self.thread = threading.Thread(target=self._run, name=f"redis-{place[0]}:{place[1]}")
        self.thread.daemon = True
        self.thread.start()

    def put(self, request: Request) -> None:
        """From any thread; never blocks."""
        self._queue.put(request)

    def finish(self) -> None:
        """End the thread once everything that was put before is answered."""
        self._queue.put(None)

    def stop(self) -> None:
        """End the thread now; what has no answer is refused."""
        self._stop.set()
        self._queue.put(None)
        link = self._link
        if link is not None:
            link.shut()

    def _run(self) -> None:
        with suppress(trio.RunFinishedError):  # then nobody is left to be told
            while (batch := self._next_batch()) is not None:
                self._carry_out(batch)
                self._tell()
            self._drop_link()
            self.refuse_all()
            self._token.run_sync_soon(self.ended.set)

    def refuse_all(self) -> None:
        """Once the thread has ended: for what came too late."""
        self._refuse(self._everything(), _CLOSED)
        self._tell()

    def _tell(self) -> None:
        if self._answered:
            answered, self._answered = self._answered, []
            self._token.run_sync_soon(_tell, answered)

    def _next_batch(self) -> list[Request] | None:
        """Wait for requests; None if there will be no more."""
        return self._gather(self._most, wait=True) or None

    def _gather(self, most: int, *, wait: bool) -> list[Request]:
        """What waits, up to about *most* commands."""
        batch: list[Request] = []
        commands = size = 0
        empty, get, stopped = self._queue.empty, self._queue.get_nowait, self._stop.is_set
        while commands < most and size < MOST_BYTES_PER_BATCH:
            if empty() or self._waiting or self._later or stopped():
                request = self._next(wait=wait and not batch)
                if request is None:
                    break
            else:  # nobody else takes from it
                request = get()
                if request is None:
                    self._closing = True
                    continue
            batch.append(request)
            commands += request.length
            size += request.size
        return batch

    def _next(self, *, wait: bool) -> Request | None:
        while not self._stop.is_set():
            pause = self._until_later() if self._later else None
            if self._waiting:
                return self._waiting.popleft()
            if self._queue.empty() and (not wait or (self._closing and not self._later)):
                return None
            with suppress(queue.Empty):
                request = self._queue.get(timeout=pause)
                if request is not None:
                    return request
                self._closing = True
        return None

    def _until_later(self) -> float | None:
        """How long until what was put off is due; what is due joins what waits."""
        pause = self._later_at - time.monotonic()
        if pause > 0:
            return pause
        self._waiting.extendleft(reversed(self._later))
        self._later.clear()
        return None

    def _carry_out(self, requests: list[Request]) -> None:
        batch = deque(requests)
        try:
            if self._link is None:
                self._link = self._owner.connect(self)
                if self._stop.is_set():  # and `stop` could not see this connection
                    self._link.shut()
            trouble = self._exchange(self._link, batch)
        except Denied as exc:
            self._drop_link()
            self.fault = self._text(exc.reason)
            self._refuse([*batch, *self._everything()], self.fault)
        except Broken as exc:
            self._broken(exc.reason, batch)
        except OSError as exc:
            self._broken(cause(exc, PATIENCE_SECONDS), batch)
        except BaseException as exc:  # noqa: BLE001 - in a thread nobody else would hear of it
            self._drop_link()
            self._refuse(batch, f"the storage failed: {exc!r}")
        else:
            self.fault = trouble and self._text(trouble)
            self._most = min(4 * self._most, MOST_PER_BATCH)
            if not self._later:
                self._pause = FIRST_PAUSE_SECONDS

    def _exchange(self, link: Link, batch: deque[Request]) -> str | None:
        """Send *batch* and take from it what has its replies; returns what the server lacks.

        Whenever the server is still busy, answers are given and what came meanwhile is sent
        after: neither side waits for the other one to finish.
        """
        scripts, self._scripts = self._scripts, {}
        loads = [pack(("SCRIPT", "LOAD", script.source)) for script in scripts.values()]
        self._send(link, batch, loads)
        next_reply, received = link.replies.next, link.replies.waits
        loaded = {sha: next_reply() for sha in scripts}
        trouble: str | None = None
        while batch:
            if not received():
                self._tell()
                if trouble is None and not self._scripts:
                    more = self._gather(self._most - len(batch), wait=False)
                    batch.extend(more)  # before it is sent: a connection may break then, too
                    self._send(link, more)
            request = batch[0]
            cut = _read_replies(request, next_reply, loaded)
            if cut is not None:
                trouble = self._redirect(request, *cut) or trouble
            elif len(request.replies) < request.length:  # it was asking
                self._owner.returned(request, self)
            else:
                self._answered.append(request)
            batch.popleft()  # not before somebody else has it
        if trouble == NOT_MASTER_TEXT and self._owner.follows_master:
            self._drop_link()
        return trouble

    def _send(self, link: Link, requests: Iterable[Request], before: Iterable[bytes] = ()) -> None:
        pieces = list(before)
        pieces += (request.to_send() for request in requests)
        if pieces:
            self.batches += 1
            link.sock.sendall(b"".join(pieces))

    def _redirect(self, request: Request, verdict: Verdict, text: str) -> str | None:
        """Do what a reply asks for; returns what the server lacks, if that is why."""
        if verdict is Verdict.NO_SCRIPT:
            script = request.next_script()
            assert script is not None
            self._scripts[script.sha] = script
            self._waiting.append(request)
            return None
        if verdict in (Verdict.MOVED, Verdict.ASK):
            request.asking = verdict is Verdict.ASK
            request.redirects += 1
            self._owner.moved(request, text.rsplit(maxsplit=1)[-1], self)
            return None
        not_master = verdict is Verdict.NOT_MASTER and self._owner.follows_master
        if verdict is Verdict.AGAIN or not_master:
            self.put_off(request, text)
        else:
            self.refuse(request, text)
        return text

    def refuse(self, request: Request, reason: str) -> None:
        """Give *request* up; only for the node's own thread."""
        self._refuse([request], self._text(reason))

    def put_off(self, request: Request, reason: str) -> None:
        """Have another try at *request* a little later; only for the node's own thread."""
        if time.monotonic() - request.born >= PATIENCE_SECONDS:
            self.refuse(request, reason)
            return
        if not self._later:
            self._later_at = time.monotonic() + self._pause
            self._pause = min(self._pause * 2, LONGEST_PAUSE_SECONDS)
        self._later.append(request)

    def _broken(self, reason: str, batch: Iterable[Request]) -> None:
        """There is no connection: pause, unless another node can do what there is to do."""
        self._drop_link()
        self._most = 1
        self.fault = self._text(reason)
        left = self._owner.lost(self, [*batch, *self._everything()])
        oldest = time.monotonic() - PATIENCE_SECONDS
        self._refuse([it for it in left if it.born <= oldest], self.fault)
        self._waiting.extend(it for it in left if it.born > oldest)
        self._tell()
        if self._waiting:
            self._stop.wait(self._pause)
            self._pause = min(self._pause * 2, LONGEST_PAUSE_SECONDS)

    def _everything(self) -> list[Request]:
        """Take what waits in any place."""
        waiting = [*self._waiting, *self._later]
        self._waiting.clear()
        self._later.clear()
        with suppress(queue.Empty):
            while True:
                request = self._queue.get_nowait()
                if request is None:
                    self._closing = True
                else:
                    waiting.append(request)
        return waiting

    def _refuse(self, requests: Iterable[Request], reason: str) -> None:
        for request in requests:
            request.error = StorageUnavailable(reason)
            self._answered.append(request)

    def _text(self, reason: str) -> str:
        return f"{self.name} cannot be used: {reason}"

    def _drop_link(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()


_Cut = tuple[Verdict, str]


def _read_replies(
    request: Request, next_reply: Callable[[], Any], loaded: dict[str, Any]
) -> _Cut | None:
    """Read the replies to *request*; returns what to do with it if that was not all.

    From the first command on that has to be sent again nothing counts: replies tell of the
    commands in their order.
    """
    replies = request.replies
    if request.asking:
        next_reply()
        request.asking = False
        lacking = 1
    else:
        lacking = request.length - len(replies)
    cut: _Cut | None = None
    for _ in range(lacking):
        reply = next_reply()
        if cut is not None:
            continue
        if type(reply) is ResponseError:
            verdict, text = judge(reply)
            script = request.next_script()
            if verdict is Verdict.NO_SCRIPT:
                failed = loaded.get(script.sha) if script else reply
                if isinstance(failed, ResponseError):  # it can't be loaded, and this is why
                    verdict, reply = Verdict.ANSWER, failed
            if verdict is not Verdict.ANSWER:
                cut = verdict, text
                continue
        replies.append(reply)
    return cut


def _tell(answered: Sequence[Request]) -> None:
    for request in answered:
        request.tell()
