"""Nothing of a request stays in the process: objects are counted, which does not depend on how busy a machine is."""

import asyncio
import gc
import random

import httpx

from unmask.decode.canvas import Canvas
from unmask.decode.continuous import Member
from unmask.serve.app import create_app
from unmask.serve.engine import Job
from unmask.serve.settings import ServeSettings


def requests(generator):
    """One request of each kind, none like another."""
    own, length = generator.randrange(10**9), generator.randint(1, 8)
    yield "/v1/fill", {"text": f"the [MASK:{length}] dog", "seed": own}
    yield "/v1/fill", {"text": f"the [MASK:1-{length}] dog.", "seed": own}
    yield "/v1/fill", {"text": "the [MASK:4]", "regex": f"[a-z ]{{1,{own % 30 + 1}}}", "seed": own}
    yield "/v1/fill", {"text": "the [MASK:4]", "remask": "cap", "order": "top_prob", "seed": own}
    yield "/v1/generate", {"text": "the cat", "length": length, "seed": own, "stream": True}
    yield "/v1/completions", {"prompt": f"the {own}", "max_tokens": length, "n": 2, "stream": True}
    yield "/v1/score", {"text": f"the {own}"}
    yield "/v1/embed", {"text": f"the {own}"}
    yield "/v1/fill", {"text": f"no blank {own}"}
    yield "/elsewhere", {"of": own}


def test_nothing_of_a_request_stays(model):
    """Six rounds of all kinds leave as many objects as three, as many jobs and canvases, and no further metric."""
    app, generator, counts = create_app(model, "small", ServeSettings()), random.Random(0), list[tuple[int, ...]]()

    async def run():
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://service", timeout=60) as client,
        ):
            for _ in range(2):
                for _ in range(3):
                    replies = [client.post(path, json=body) for path, body in requests(generator)]
                    statuses = [reply.status_code for reply in await asyncio.gather(*replies)]
                    assert statuses == [200] * 8 + [400, 404]
                engine, decodes = app.state.service.engine, app.state.service.decodes
                assert not engine._running and not engine._waiting and len(decodes._cache) <= 16
                lines = app.state.service.meters.page().count(b"\n")
                del replies
                gc.collect()
                objects = gc.get_objects()
                kept = sum(type(each) in (Job, Member, Canvas) for each in objects)
                counts.append((kept, lines, len(objects)))
                del objects

    asyncio.run(run())
    (jobs, lines, objects), after = counts
    assert jobs == after[0] and lines == after[1]
    assert after[2] - objects < 4 * 30, counts  # caches of the client and of patterns; a request has hundreds
