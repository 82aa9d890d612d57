"""Worker processes that are gone for long are forgotten, those that hold something never."""

from tests.delivery.scene import Scene

from avtomatika_trio._core.ledger import Instance

DAY = 86_400.0


def instance(scene: Scene, instance_id: str = "i1") -> Instance | None:
    return scene.run(lambda ledger: ledger.instance(instance_id))


def test_a_process_that_is_gone_is_forgotten_a_day_after_it_was_heard(scene: Scene) -> None:
    scene.worker()
    scene.wait(60)
    gone = instance(scene)
    assert gone is not None
    assert gone.gone
    assert gone.due_at == gone.seen_at + DAY
    scene.outage(DAY - 61)
    scene.serve()
    assert instance(scene) is not None
    scene.wait(60)
    assert instance(scene) is None


def test_one_that_is_heard_again_is_kept(scene: Scene) -> None:
    scene.worker()
    scene.wait(60)
    scene.beat()
    scene.outage(DAY - 1000)
    scene.beat()
    scene.wait(1100)
    assert instance(scene) is not None


def test_a_forgotten_process_is_told_to_register_again(scene: Scene) -> None:
    scene.worker()
    scene.wait(60)
    scene.outage(DAY)
    scene.wait(60)
    assert not scene.beat().known
    scene.worker()
    assert scene.beat().known


def test_a_replaced_process_is_forgotten_too(scene: Scene) -> None:
    scene.worker("old")
    scene.worker("new")
    scene.beat(instance="new", replaces=("old",))
    old = instance(scene, "old")
    assert old is not None
    assert old.due_at is not None
    scene.outage(DAY)
    scene.beat(instance="new")
    scene.wait(40)
    assert instance(scene, "old") is None
    assert instance(scene, "new") is not None


def test_a_process_that_went_with_a_task_is_looked_at_until_it_holds_none(scene: Scene) -> None:
    scene.job()
    scene.worker()
    wire_id = scene.take()
    scene.outage(2 * DAY)
    scene.beat(wire_id, last_poll=1)
    assert scene.task().wire_id == wire_id
    scene.outage(2 * DAY)
    scene.wait(10)
    assert instance(scene) is not None
    scene.wait(60)
    assert scene.history()[-1] == "attempt_lost"
    assert scene.task().wire_id is None
