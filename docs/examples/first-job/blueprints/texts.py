"""A task for each text, all at the same time, and their sum."""

from avtomatika_trio import Blueprint

texts = Blueprint("texts")


@texts.handler(is_start=True)
async def begin(actions, titles, pause=0):
    branches = [
        {"type": "count_words", "key": title, "params": {"text": text, "pause": pause}}
        for title, text in titles.items()
    ]
    actions.dispatch_parallel(branches, aggregate_into="add_up")


@texts.aggregator
async def add_up(actions, aggregation_results, state_history):
    counts = {title: branch["data"]["count"] for title, branch in aggregation_results.items()}
    state_history["counts"] = counts
    actions.go_to("done")


@texts.handler(is_end=True)
async def done(counts):
    return {"counts": counts, "words": sum(counts.values())}
