"""One task: count the words of a text."""

from avtomatika_trio import Blueprint

words = Blueprint("words")


@words.handler(is_start=True)
async def begin(actions, text):
    actions.dispatch_task("count_words", {"text": text}, {"success": "done"})


@words.handler(is_end=True)
async def done(count):
    return {"words": count}
