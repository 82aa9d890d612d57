"""A worker that counts words, as slowly as it is asked to."""

import trio

from avtomatika_trio.worker import Worker

worker = Worker()


@worker.skill("count_words")
async def count_words(params, send_progress):
    words = params["text"].split()
    for number, _ in enumerate(words, start=1):
        await trio.sleep(params.get("pause", 0))
        send_progress(number / len(words), f"{number} of {len(words)} words")
    return {"count": len(words)}
