"""Films are inspected, converted scene by scene, and joined."""

from avtomatika_trio import Blueprint

films = Blueprint("films", api_version="v1", api_endpoint="/jobs/films")


@films.handler(is_start=True)
async def inspect(actions, path):
    actions.dispatch_task(
        "inspect_file",
        {"path": path},
        {
            "success": "decide",
            "unreadable": "rejected",
            "failure": "failed",
            "timeout": "failed",
        },
        timeout_seconds=600,
        dispatch_timeout=3600,
        retry={"max_retries": 2, "base_seconds": 5},
    )


def state_for(kind):
    return "convert" if kind == "film" else "done"


@films.handler(to=["convert", "done"])
async def decide(actions, kind):
    actions.go_to(state_for(kind))


@films.handler
async def convert(actions, path, scenes):
    branches = [
        {
            "type": "convert_scene",
            "key": f"scene-{number}",
            "params": {"path": path, "number": number},
            "retry": 1,
        }
        for number in range(scenes)
    ]
    actions.dispatch_parallel(
        branches, aggregate_into="join", max_concurrency=4, transitions={"failure": "failed"}
    )


@films.aggregator
async def join(actions, aggregation_results, state_history):
    state_history["files"] = [scene["data"]["file"] for scene in aggregation_results.values()]
    actions.go_to("done")


@films.handler(is_end=True)
async def done(path, files=()):
    return {"path": path, "files": list(files)}


@films.handler(is_end=True, outcome="failed")
async def rejected(state_history):
    return {"why": state_history["inspect"]["data"]}


@films.handler(is_end=True)
async def failed():
    return None
