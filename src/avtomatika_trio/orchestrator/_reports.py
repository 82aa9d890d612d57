"""What workers say of attempts: results, and what they return; by partition."""

from collections.abc import Callable, Sequence
from functools import partial

import attrs
import trio

from avtomatika_trio._core import lease, results
from avtomatika_trio._core.dispatch import HandOut, Offer, hand_out
from avtomatika_trio._core.fencing import Answer
from avtomatika_trio._core.json_schema import Effort
from avtomatika_trio._core.ledger import Ledger
from avtomatika_trio.errors import StorageUnavailable
from avtomatika_trio.orchestrator._context import Context
from avtomatika_trio.orchestrator._hand_outs import fresh_wire_ids, note_holding, take
from avtomatika_trio.orchestrator._partitions import by_partition, commit_in_all


@attrs.frozen(kw_only=True)
class _Told:
    """What a result was answered with."""

    answer: Answer
    is_repeated: bool
    """Whether it had been answered so before."""


async def report(
    context: Context, reports: Sequence[results.Report], offer: Offer | None
) -> tuple[list[Answer], tuple[HandOut, ...]]:
    """Apply results, and hand out the next tasks: in one commit, if one partition has it all.

    Raises:
        StorageUnavailable: some of the results may have been applied, but nothing is leased;
            sent again, they are answered as they would have been.
    """
    told, got = await _report_anywhere(context, reports, offer)
    for it in told:
        context.metrics.answered(it.answer, is_repeated=it.is_repeated)
    return [it.answer for it in told], got


async def _report_anywhere(
    context: Context, reports: Sequence[results.Report], offer: Offer | None
) -> tuple[list[_Told], tuple[HandOut, ...]]:
    storage = context.storage
    where = by_partition(storage, [it.wire_id for it in reports])
    with_tasks = () if offer is None else storage.partitions_with(offer.skills)
    if len({*where, *with_tasks}) == 1 and len(where) == 1:
        [partition] = where
        return await _report_in_one(context, reports, offer, partition)
    operations: dict[str, Callable[[Ledger], list[_Told]]] = {}
    noise = context.chance.noise()
    for partition in where:
        some = [it for it in reports if storage.partition_of(it.wire_id) == partition]
        operations[partition] = partial(_report, reports=some, context=context, noise=noise)
    with trio.CancelScope(shield=True):
        told = await commit_in_all(storage, operations)
        by_place = {partition: iter(some) for partition, some in told.items()}
        answers = [next(by_place[storage.partition_of(it.wire_id)]) for it in reports]
        got: tuple[HandOut, ...] = ()
        if offer is not None:
            try:
                got = await take(context, offer)
            except StorageUnavailable:
                got = ()  # what was applied can be answered
    return answers, got


async def _report_in_one(
    context: Context, reports: Sequence[results.Report], offer: Offer | None, partition: str
) -> tuple[list[_Told], tuple[HandOut, ...]]:
    if offer is not None:
        note_holding(context, offer, partition)
    wire_ids = () if offer is None else fresh_wire_ids(context, offer.most, partition)
    if context.unsure.is_full(wire_ids):
        offer, wire_ids = None, ()  # results are taken all the same
    operation = partial(
        _report_and_hand_out,
        reports=reports,
        offer=offer,
        wire_ids=wire_ids,
        context=context,
        noise=context.chance.noise(),
    )
    with trio.CancelScope(shield=True), context.unsure.unless_known(wire_ids):
        answered = await context.storage.commit(operation, partition)
    return answered  # noqa: RET504 - to mypy a scope may swallow what is raised in it


def _report(
    ledger: Ledger, reports: Sequence[results.Report], context: Context, noise: float
) -> list[_Told]:
    effort = Effort()  # a new one for each run
    return [
        _Told(
            is_repeated=results.was_answered(ledger, said),
            answer=results.report(ledger, said, context.rules, noise, effort),
        )
        for said in reports
    ]


def _report_and_hand_out(
    ledger: Ledger,
    reports: Sequence[results.Report],
    offer: Offer | None,
    wire_ids: Sequence[str],
    context: Context,
    noise: float,
) -> tuple[list[_Told], tuple[HandOut, ...]]:
    """Apply results and hand out the next tasks in one commit."""
    answers = _report(ledger, reports, context, noise)
    if offer is None:
        return answers, ()
    alone = len(context.storage.partitions) == 1
    got = hand_out(ledger, offer, wire_ids, context.rules, may_take_suspect=alone)
    return answers, got


async def take_back(
    context: Context, worker_id: str, wire_ids: Sequence[str], unstarted: Sequence[str]
) -> int:
    """Take back what a worker returns; see `lease.take_back`.

    Raises:
        StorageUnavailable: not all of it was taken back; to return it again does no harm.
    """
    operations = {
        partition: partial(
            lease.take_back,
            worker_id=worker_id,
            wire_ids=tuple(some),
            unstarted=frozenset(unstarted),
            rules=context.rules,
            noise=context.chance.noise(),
        )
        for partition, some in by_partition(context.storage, wire_ids).items()
    }
    return sum((await commit_in_all(context.storage, operations)).values())
