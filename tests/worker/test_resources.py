"""What a worker says of its machine when it registers."""

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.worker.fake_orchestrator import FakeOrchestrator
from tests.worker.worker_cases import echo_worker, running
from trio.testing import MockClock

from avtomatika_trio._config import load_worker_settings
from avtomatika_trio._wire.messages import Registration
from avtomatika_trio.errors import ConfigError
from avtomatika_trio.worker import Worker
from avtomatika_trio.worker._resources import registration_of
from avtomatika_trio.worker._skills import Skill


def said(environ: Mapping[str, str], file: Path | None = None, **overrides: Any) -> Registration:
    loaded = load_worker_settings(environ=environ, file=file, overrides=overrides)
    skills: dict[str, Skill] = {skill: echo_worker()._skills["echo"] for skill in ("mix", "render")}
    return registration_of("w1", "generic", loaded.settings, skills, "i1")


def test_without_settings_the_truth_is_told() -> None:
    told = said({})
    properties = told.resources["properties"]
    assert properties["cpu_cores"] == len(os.sched_getaffinity(0))
    meminfo = Path("/proc/meminfo").read_text()
    kib = next(int(it.split()[1]) for it in meminfo.splitlines() if it.startswith("MemTotal"))
    assert properties["ram_gb"] == pytest.approx(kib / 1024**2, abs=0.1)
    assert told.resources["devices"] == []
    assert told.installed_software == {"python": platform.python_version()}
    assert told.installed_artifacts == []
    assert told.capabilities["cost_per_skill"] == {}
    assert told.capabilities["extra"] == {}


def test_the_slots_are_told() -> None:
    assert said({}, max_concurrent_tasks=3).slots == 3


def test_settings_are_told_with_the_names_of_the_protocol() -> None:
    told = said(
        {
            "CPU_CORES": "64",
            "RAM_GB": "512",
            "GPU_MODEL": "H100",
            "GPU_ID": "2",
            "GPU_VRAM_GB": "80",
            "WORKER_DEVICES": '[{"type": "npu", "properties": {"tops": 40}}]',
            "INSTALLED_SOFTWARE": '{"cuda": "12.4"}',
            "INSTALLED_MODELS": '[{"name": "whisper", "type": "model"}]',
            "COST_PER_SKILL": '{"render": 0.5}',
            "COST_PER_SECOND": "0.1",
            "WORKER_EXTRA_ZONE": "eu-1",
            "WORKER_EXTRA_LABELS": '{"rack": 7}',
            "WORKER_EXTRA_VERSION": "12",
        }
    )
    assert told.resources == {
        "properties": {"cpu_cores": 64, "ram_gb": 512.0},
        "devices": [
            {
                "type": "gpu",
                "id": "2",
                "model": "H100",
                "properties": {"memory_gb": 80.0, "vram_gb": 80.0},
            },
            {"type": "npu", "properties": {"tops": 40}},
        ],
    }
    assert told.installed_software == {"cuda": "12.4"}
    assert told.installed_artifacts == [{"version": "unknown", "name": "whisper", "type": "model"}]
    assert told.capabilities["cost_per_skill"] == {"mix": 0.1, "render": 0.5}
    assert told.capabilities["extra"] == {"zone": "eu-1", "labels": {"rack": 7}, "version": "12"}


def test_an_argument_of_the_worker_wins() -> None:
    told = said({"COST_PER_SKILL": '{"render": 9}'}, cost_per_skill={"mix": 2})
    assert told.capabilities["cost_per_skill"] == {"mix": 2.0}


def test_toml_needs_no_json(tmp_path: Path) -> None:
    file = tmp_path / "avtomatika.toml"
    file.write_text('[worker.cost_per_skill]\nmix = 3\n[[worker.worker_devices]]\ntype = "npu"\n')
    told = said({}, file)
    assert told.capabilities["cost_per_skill"] == {"mix": 3.0}
    assert told.resources["devices"] == [{"type": "npu"}]


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("COST_PER_SKILL", '{"render": -1}', "of 'render': -1 is out of range"),
        ("COST_PER_SKILL", '{"render": "free"}', "of 'render': 'free' is not a number"),
        ("COST_PER_SKILL", "0.5", "it is not an object"),
        ("COST_PER_SECOND", "nan", "'nan' is not a number"),
        ("INSTALLED_SOFTWARE", '{"cuda": 12.4}', "the version of 'cuda' is not a text, but 12.4"),
        ("INSTALLED_ARTIFACTS", '[{"version": "1"}]', "[0].name is not a text"),
        ("INSTALLED_MODELS", '["whisper"]', "[0] is not an object"),
        ("WORKER_DEVICES", '[{"type": "gpu"}, {"model": "x"}]', "[1].type is not a text"),
        ("WORKER_DEVICES", "[{", "it is not JSON at line 1"),
        ("CPU_CORES", "many", "'many' is not a whole number"),
        ("RAM_GB", "-1", "-1.0 is out of range"),
        ("WORKER_EXTRA_LABELS", "{rack: 7}", "WORKER_EXTRA_LABELS: it is not JSON"),
    ],
)
def test_what_is_malformed_is_named(name: str, value: str, fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        said({name: value})
    [problem] = caught.value.problems
    assert name in problem
    assert fault in problem


async def test_it_is_told_when_the_worker_registers(autojump_clock: MockClock) -> None:
    fake = FakeOrchestrator()
    async with running(echo_worker(), fake, worker_type="big", gpu_model="H100"):
        await fake.until(lambda: fake.registrations)
    [told] = fake.registrations
    assert told.worker_type == "big"
    assert told.resources["devices"] == [{"type": "gpu", "id": "0", "model": "H100"}]


async def test_a_price_of_no_skill_is_an_error_where_the_skills_are_written(
    autojump_clock: MockClock,
) -> None:
    prices = {"eco": 1.0, "echo": 2.0}
    worker = Worker(cost_per_skill=prices)
    worker.skill("echo")(lambda: None)
    with pytest.RaisesGroup(ConfigError) as caught:
        async with running(worker, FakeOrchestrator(), cost_per_skill=prices):
            pass
    (error,) = caught.value.exceptions
    told = "cost_per_skill: there is no skill 'eco' to have a price; did you mean 'echo'?"
    assert str(error) == told


async def test_in_settings_it_is_a_warning_for_they_may_be_those_of_several_workers(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    fake = FakeOrchestrator()
    async with running(echo_worker(), fake, cost_per_skill={"eco": 1.0, "echo": 2.0}):
        await fake.until(lambda: fake.registrations)
    assert (
        "COST_PER_SKILL: there is no skill 'eco' to have a price; did you mean 'echo'?;"
        " it is not announced" in caplog.text
    )
    assert fake.registrations[0].capabilities["cost_per_skill"] == {"echo": 2.0}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"cost_per_skill": {"echo": "free"}}, "cost_per_skill: of 'echo': 'free' is not a number"),
        ({"devices": ["gpu"]}, "devices: [0] is not an object"),
        ({"health_port": 99_999}, "health_port: 99999 is out of range"),
        ({"extra": {"x": object()}}, "extra: 'x' is not JSON"),
        ({"devices": [{"type": "gpu", "x": object()}]}, "devices: [0] is not JSON"),
    ],
)
def test_an_argument_is_called_as_it_was_written(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Worker(**arguments).configure()
    assert str(caught.value).startswith(told)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"worker_type": 3}, "worker_type: it is no text, but 3; give one such as 'gpu'"),
        ({"skill_type_limits": ["gpu"]}, "skill_type_limits: it is no dict, but ['gpu']; give"),
        ({"task_type_limits": 3}, "task_type_limits: it is no dict, but 3; give"),
        ({"skill_dependencies": [("a", "b")]}, "skill_dependencies: it is no dict, but"),
    ],
)
def test_an_argument_of_another_type_is_told_with_an_example(
    arguments: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        Worker(**arguments)
    assert str(caught.value).startswith(told)
