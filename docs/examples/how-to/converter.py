"""A worker with two skills: one in the loop, one in threads."""

from pathlib import Path

import trio

from avtomatika_trio.worker import InvalidInput, TransientError, Worker

worker = Worker("converter", max_concurrent_tasks=2)


@worker.skill("inspect_file")
def inspect_file(params):
    path = Path(params["path"])
    if not path.is_absolute():
        raise InvalidInput(f"{path} is not absolute", {"path": str(path)})
    if not path.exists():
        raise TransientError(f"{path} is not there yet")
    lines = path.read_bytes().splitlines()
    if not lines:
        return {"status": "unreadable", "data": {"reason": "it is empty"}}
    return {"kind": "film" if len(lines) > 1 else "photo", "scenes": len(lines)}


@worker.skill("convert_scene")
async def convert_scene(params, idempotency_key, attempt, send_progress):
    target = Path(params["path"]).with_suffix(f".{params['number']}")
    for step in range(10):
        await trio.sleep(0.01)
        send_progress((step + 1) / 10, f"scene {params['number']}, attempt {attempt}")
    target.write_text(f"converted for {idempotency_key}\n")
    return {"file": str(target)}


if __name__ == "__main__":
    worker.run()
