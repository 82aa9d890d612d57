"""Names, units, helps and labels are as Prometheus wants them, and the page of metrics has them."""

import re
from pathlib import Path

import pytest
import trio
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from tests.orchestrator.clients import Worker, make_context, open_client
from tests.orchestrator.test_metrics import measured
from trio.testing import MockClock

from avtomatika_trio.orchestrator._engine import run_engine
from avtomatika_trio.orchestrator._janitor import run_janitor
from avtomatika_trio.orchestrator._metric_families import Family
from avtomatika_trio.orchestrator._metrics import Metrics

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"

FAMILIES = Metrics().families

#: What labels may tell: each has few values, whatever is sent.
LABELS = {
    "blueprint",
    "direction",
    "kind",
    "method",
    "op",
    "outcome",
    "queue",
    "reason",
    "route",
    "state",
    "status",
    "task_type",
    "version",
}

#: What a gauge may be of if it has no unit.
COUNTED = ("depth", "tasks", "workers", "slots", "overdue", "up", "info")

all_families = pytest.mark.parametrize("family", FAMILIES, ids=lambda it: it.name)


@all_families
def test_a_name_has_its_unit_and_its_suffix(family: Family) -> None:
    assert re.fullmatch(r"avtomatika(_[a-z]+)+", family.full_name)
    words = family.name.split("_")
    assert (words[-1] == "total") == (family.kind == "counter")
    assert words[-1] not in ("count", "sum", "bucket", "created")
    assert not {"counter", "gauge", "histogram", "summary"} & set(words)
    assert not {"ms", "milliseconds", "minutes", "hours", "kb", "mb", "percent"} & set(words)
    if family.kind == "histogram":
        assert words[-1] in ("seconds", "bytes")
    if family.kind == "gauge":
        assert words[-1] in ("seconds", "bytes", *COUNTED)


@all_families
def test_a_help_is_a_sentence_and_says_whose_it_is(family: Family) -> None:
    assert re.fullmatch(r"[A-Z][^\n]+\.", family.meaning)
    whose = {"process": "Of this process.", "storage": "Of the storage."}
    assert family.help == f"{family.meaning} {whose[family.scope]}"


@all_families
def test_labels_have_few_values(family: Family) -> None:
    assert set(family.labels) <= LABELS
    assert len(set(family.labels)) == len(family.labels)


def test_the_conventions_know_the_names() -> None:
    """Those of the page that alert rules and dashboards are made by."""
    assert {
        "jobs_submitted_total",
        "jobs_finished_total",
        "tasks_dispatched_total",
        "task_attempts_total",
        "results_rejected_total",
        "results_duplicate_total",
        "leases_expired_total",
        "task_queue_wait_seconds",
        "task_duration_seconds",
        "job_duration_seconds",
        "step_commit_seconds",
        "store_op_seconds",
        "payload_bytes",
        "http_requests_total",
        "auth_failures_total",
        "queue_depth",
        "queue_oldest_task_age_seconds",
        "workers",
        "worker_slots",
        "running_tasks",
        "timers_overdue",
        "event_loop_lag_seconds",
        "build_info",
    } <= {it.name for it in FAMILIES}


def full_name(metric: Metric) -> str:
    """With the suffix of counters, which the parser takes away."""
    return f"{metric.name}_total" if metric.type == "counter" else str(metric.name)


async def test_what_is_told_is_what_is_declared(autojump_clock: MockClock) -> None:
    context = measured()
    async with open_client(context) as client, trio.open_nursery() as nursery:
        nursery.start_soon(run_engine, context)
        nursery.start_soon(run_janitor, context)
        await client.post("/api/v1/jobs/resize", json=[{}, {}])
        await trio.sleep(1)
        worker = Worker(client)
        await worker.register("scale")
        first, _ = await worker.take()
        await worker.report(first)
        await worker.report({"job_id": "stranger", "task_id": "stranger"})
        await trio.sleep(1)
        await client.get("/api/v1/jobs", headers={"X-Client-Token": "a stranger's"})
        answer = await client.get("/_public/metrics")
        nursery.cancel_scope.cancel()
    told = {full_name(it): it for it in text_string_to_metric_families(answer.text)}
    assert told.keys() == {it.full_name for it in FAMILIES}
    for family in FAMILIES:
        metric = told[family.full_name]
        assert (metric.type, metric.documentation) == (family.kind, family.help)
        labels = {name for sample in metric.samples for name in sample.labels}
        assert labels - {"le"} == set(family.labels)
        assert metric.samples


async def test_each_name_is_told_once() -> None:
    async with open_client(make_context()) as client:
        text = (await client.get("/metrics")).text
    heads = re.findall(r"^# (HELP|TYPE) (\S+)", text, re.MULTILINE)
    assert len(heads) == len(set(heads))
    lines = [line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")]
    assert len(lines) == len(set(lines))


def test_the_page_has_every_metric_and_label() -> None:
    page = PAGE.read_text("utf-8")
    rows = re.findall(
        r"^\| `(\w+)` \| (\w+) \| (.*?) \| (process|storage) \| (.+) \|$", page, re.MULTILINE
    )
    assert rows == [
        (it.name, it.kind, ", ".join(f"`{label}`" for label in it.labels), it.scope, it.meaning)
        for it in FAMILIES
    ]
    explained = page.partition("## Labels")[2].partition("## ")[0]
    used = {label for it in FAMILIES for label in it.labels} - {"version"}
    assert [label for label in sorted(used) if f"`{label}`" not in explained] == []


def test_what_the_page_advises_names_metrics_that_there_are() -> None:
    named = set(re.findall(r"avtomatika_(\w+)", PAGE.read_text("utf-8")))
    there = {it.name for it in FAMILIES} | {
        f"{it.name}_{end}" for it in FAMILIES if it.kind == "histogram" for end in ("bucket",)
    }
    assert named - there == set()
