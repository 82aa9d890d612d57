"""Skills that are collected without a worker, and those of a folder."""

import functools
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.worker.fake_orchestrator import FakeOrchestrator
from tests.worker.worker_cases import running
from trio.testing import MockClock

from avtomatika_trio.errors import ConfigError
from avtomatika_trio.worker import SkillBlueprint, Worker


@pytest.fixture(autouse=True)
def modules() -> Iterator[None]:
    """What a folder has loaded is forgotten."""
    before = list(sys.path)
    yield
    sys.path[:] = before
    for name in [it for it in sys.modules if it.startswith("avtomatika_skills.")]:
        del sys.modules[name]


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        file = folder / (name.replace("__in__", "/") + ".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


def one_skill(name: str) -> str:
    return (
        "from avtomatika_trio.worker import SkillBlueprint\n"
        "blueprint = SkillBlueprint()\n"
        f"@blueprint.skill({name!r})\n"
        "async def it(params: dict) -> str:\n"
        f"    return {name!r}\n"
    )


class Own(Worker):
    """Of an author who adds to it."""


async def test_the_skills_of_a_blueprint_are_those_of_each_worker_that_includes_it(
    autojump_clock: MockClock,
) -> None:
    blueprint = SkillBlueprint()

    @blueprint.skill
    async def plain() -> str:
        return "plain"

    @blueprint.skill("named", type="image", description="d")
    async def whatever() -> str:
        return "named"

    @blueprint.task("old", task_type="image")
    async def older() -> str:
        return "old"

    @blueprint.task
    async def oldest() -> str:
        return "oldest"

    fake, worker, other = FakeOrchestrator(), Worker(), Worker()
    worker.include(blueprint)
    other.include_blueprint(blueprint)
    assert worker.skills == other.skills == ("plain", "named", "old", "oldest")
    info = worker._skills["named"].info
    assert (info.type, info.description) == ("image", "d")
    assert worker._skills["old"].info.type == "image"
    for skill in worker.skills:
        fake.submit(skill)
    async with running(worker, fake):
        await fake.all_done()
    assert [data for _, data in fake.results().values()] == list(worker.skills)


def test_the_names_of_a_blueprint_may_get_a_prefix() -> None:
    blueprint, worker = SkillBlueprint(), Worker()

    @blueprint.skill
    def resize() -> None: ...

    @blueprint.skill("crop", type="image")
    def whatever() -> None: ...

    worker.include(blueprint, prefix="images.")
    worker.include(blueprint)
    assert worker.skills == ("images.resize", "images.crop", "resize", "crop")
    types = [worker._skills[name].info.type for name in worker.skills]
    assert types == ["images.resize", "image", "resize", "image"]
    with pytest.raises(ConfigError, match="not 'an image/resize'"):
        worker.include(blueprint, prefix="an image/")


@pytest.mark.parametrize("prefix", ["", "images."])
def test_a_prefix_is_no_name_for_what_has_none(prefix: str) -> None:
    blueprint, worker = SkillBlueprint(), Worker()
    blueprint.skill()(functools.partial(lambda params: params))
    with pytest.raises(ConfigError, match="not ''; give one"):
        worker.include(blueprint, prefix=prefix)
    assert worker.skills == ()


def test_a_name_that_is_taken_is_told_with_both_places() -> None:
    blueprint, worker = SkillBlueprint(), Worker()

    @worker.skill("twin")
    def first() -> None: ...

    @blueprint.skill("twin")
    def second() -> None: ...

    with pytest.raises(ConfigError, match="'twin' is registered twice") as caught:
        worker.include(blueprint)
    for function in (first, second):
        assert f"{__file__}:{function.__code__.co_firstlineno}" in str(caught.value)


async def test_a_blueprint_may_ask_for_what_a_middleware_of_the_worker_provides(
    autojump_clock: MockClock,
) -> None:
    blueprint, worker = SkillBlueprint(), Worker()

    @blueprint.skill
    async def it(db: Any) -> None: ...

    async def provide(context: Any, call_next: Any) -> Any:
        return await call_next()

    worker.include(blueprint)
    missing = pytest.RaisesExc(ConfigError, match="nothing fills the parameter 'db'")
    with pytest.RaisesGroup(missing):
        async with running(worker, FakeOrchestrator()):
            pass
    worker.add_middleware(provide, provides=("db",))
    async with running(worker, FakeOrchestrator()):
        assert worker.skills == ("it",)


async def test_a_folder_is_loaded_at_the_start(autojump_clock: MockClock, tmp_path: Path) -> None:
    write(
        tmp_path,
        b=one_skill("b"),
        a="from b import blueprint\n"
        "def setup(worker):\n"
        "    worker.skill('from_setup')(lambda: None)\n",
        deep__in__c=one_skill("c") + "import sys\nassert sys.modules[__name__].it is it\n",
        _left_out="raise AssertionError",
        _left__in__out="raise AssertionError",
    )
    fake, worker = FakeOrchestrator(), Worker()
    fake.submit("c")
    write(tmp_path, b="from _shared import blueprint\n", _shared=one_skill("b"))
    write(tmp_path, a=(tmp_path / "a.py").read_text().replace("from b", "from _shared"))
    async with running(worker, fake, skills_dir=tmp_path):
        await fake.all_done()
    del sys.modules["_shared"]
    assert worker.skills == ("from_setup", "b", "c")
    assert fake.results() == {"k0": ("success", "c")}


def test_a_folder_is_loaded_once(tmp_path: Path) -> None:
    worker = Worker()
    for _ in range(2):
        worker.load_skills(write(tmp_path, a=one_skill("a")))
    assert worker.skills == ("a",)


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("x = 1\ny = (\n", 2, "SyntaxError: '(' was never closed"),
        ("x = 1\n\nraise ValueError('odd')\n", 3, "ValueError: odd"),
        ("\nimport not_there\n", 2, "ModuleNotFoundError: No module named 'not_there'"),
        ("def setup(worker):\n    worker.skill('a b')(print)\n", 2, "1 to 128 letters"),
        ("import sys\nsys.exit(3)\n", 2, "SystemExit: 3"),
        ("\nfrom . import a\n", 2, "an import that begins with '.'; the folder is on sys.path"),
    ],
)
async def test_a_broken_file_stops_the_start_and_is_named(
    tmp_path: Path, text: str, line: int, told: str
) -> None:
    write(tmp_path, a=one_skill("a"), broken=text)
    before = list(sys.modules)
    with pytest.RaisesGroup(ConfigError, flatten_subgroups=True) as caught:
        async with running(Worker(), FakeOrchestrator(), skills_dir=tmp_path):
            raise AssertionError
    (error,) = caught.value.exceptions
    assert f"{tmp_path / 'broken.py'}:{line}: cannot be loaded: " in str(error)
    assert told in str(error)
    assert "avtomatika_skills.broken" not in {*sys.modules} - {*before}


@pytest.mark.parametrize("text", ["\nimport not_there\n", "\nx = (\n"])
def test_the_line_is_told_in_a_folder_that_is_named_relatively(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    write(tmp_path / "skills", broken=text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"^skills/broken\.py:2: cannot be loaded"):
        Worker().load_skills(Path("skills"))


def test_a_file_whose_skills_cannot_be_registered_is_named(tmp_path: Path) -> None:
    text = one_skill("a").replace("params: dict", "params: 'Nowhere'")
    write(tmp_path, a=text)
    with pytest.raises(ConfigError, match=f"^{tmp_path / 'a.py'}: cannot be loaded: skill 'a': "):
        Worker().load_skills(tmp_path)


def test_a_file_that_runs_a_worker_is_named(tmp_path: Path) -> None:
    write(tmp_path, a="from avtomatika_trio.worker import Worker\nWorker().run()\n")
    with pytest.raises(
        ConfigError, match=r"a\.py:2: cannot be loaded: `worker\.run\(\)` is called"
    ):
        Worker().load_skills(tmp_path)


def test_a_file_that_another_imports_is_not_to_have_skills(tmp_path: Path) -> None:
    write(tmp_path, a=one_skill("a"), b="from a import blueprint\n")
    with pytest.raises(ConfigError, match="goes into one whose name begins with '_'"):
        Worker().load_skills(tmp_path)
    del sys.modules["a"]


def test_a_setup_that_is_async_is_refused(tmp_path: Path) -> None:
    write(tmp_path, a="async def setup(worker): ...\n")
    with pytest.raises(ConfigError, match="write it as `def`"):
        Worker().load_skills(tmp_path)


def test_a_folder_that_is_not_there_or_empty_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no folder"):
        Worker().load_skills(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"no \*\.py file"):
        Worker().load_skills(tmp_path)


def test_no_folder_is_loaded_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "skills", a="raise AssertionError")
    monkeypatch.chdir(tmp_path)
    worker = Worker()
    assert worker.configure().skills_dir is None


def test_an_argument_that_there_is_not_is_told_where_it_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^skill takes no 'tpye'; did you mean 'type'\?"):
        SkillBlueprint().skill("a", tpye="image")
    write(tmp_path, a=one_skill("a").replace("('a')", "('a', tpye='image')"))
    with pytest.raises(ConfigError, match=r"a\.py:3: cannot be loaded: skill takes no 'tpye'"):
        Worker().load_skills(tmp_path)


OTHER_WORKER = "from avtomatika_trio.worker import Worker\nother = Worker()\n"


@pytest.mark.parametrize("kind", [Worker, Own])
def test_a_file_with_a_worker_of_its_own_is_named(tmp_path: Path, kind: type[Worker]) -> None:
    """Nobody would get its skills, and nobody would be told."""
    write(tmp_path, a=one_skill("a"), b=f"{OTHER_WORKER}other.skill('b')(lambda: None)\n")
    with pytest.raises(ConfigError, match=r"b\.py: cannot be loaded: its 'other' is a Worker"):
        kind().load_skills(tmp_path)


def test_files_that_bring_no_skill_are_told(tmp_path: Path) -> None:
    write(tmp_path, a=OTHER_WORKER, b="x = 1\n")
    with pytest.raises(ConfigError, match=r"^WORKER_SKILLS_DIR: the files of .* bring no skill"):
        Worker().load_skills(tmp_path)
    write(tmp_path, b="def setup(worker): ...\n")
    Worker().load_skills(tmp_path)


def test_a_blueprint_takes_every_argument_that_a_worker_takes() -> None:
    named = [
        it.name
        for it in inspect.signature(Worker.skill).parameters.values()
        if it.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    assert named
    for name in named:
        SkillBlueprint().skill(**{name: None})
    with pytest.raises(ConfigError) as caught:
        SkillBlueprint().skill(nosuch=None)
    for name in named:
        assert name in str(caught.value)
