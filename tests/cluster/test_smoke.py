import time
import trio
from trio.testing import MockClock
from tests.cluster.scene import *
async def test_a(autojump_clock: MockClock, cluster: Cluster, shop: Workshop) -> None:
    await shop.add_to(cluster).start()
    ids = await cluster.submit("one", {"n": 1}, {"n": 2})
    ids += await cluster.submit("many", {"branches": 3})
    await cluster.wait_until_final(ids, seconds=5)
    print(await results_of(cluster, ids), trio.current_time())
    assert shop.times() == [1]*5
    t=time.time(); await trio.sleep(3600); print("hour", time.time()-t)
