"""The decoding thread: a client that does not take its events pauses its decode, and no other."""

import asyncio

from unmask.serve.engine import MOST_EVENTS
from unmask.serve.engine import Job as Decode
from unmask.serve.schemas import DecodeBody
from unmask.serve.service import FILL, Service
from unmask.serve.settings import ServeSettings

MANY = DecodeBody(text="the [MASK:40]", order="top_prob", remask="cap", steps=200, temperature=1.0, top_k=3)


async def submit(service, body, events):
    """Submit a decode; ``events``: with its steps."""
    rules, job = await service.decodes.rules(body, **FILL), Decode(60)
    task = service.decodes.task(body, 0)
    job.work = service.decodes.work(task, rules, body.seed, job, body.top_k if events else None)
    service.engine.submit(job)
    return job


def test_a_decode_whose_events_wait_pauses_and_ends_with_the_same_answer(model):
    async def run():
        service = Service(model, "small", ServeSettings())
        await asyncio.to_thread(service.start)
        try:
            alone = await (await submit(service, MANY, False)).result()
            slow = await submit(service, MANY, True)
            while not slow.clogged:
                await asyncio.sleep(0.01)
            other = await (await submit(service, MANY, False)).result()  # hundreds of ticks
            assert MOST_EVENTS <= slow.events.qsize() <= MOST_EVENTS + 32
            assert other.ids == alone.ids and alone.passes > 2 * MOST_EVENTS
            assert (await slow.result()).ids == alone.ids

            slow = await submit(service, MANY, True)
            while not slow.clogged:
                await asyncio.sleep(0.01)
            slow.cancel()
            while service.engine._running:
                await asyncio.sleep(0.01)
        finally:
            await asyncio.to_thread(service.engine.stop)

    asyncio.run(run())
