"""Which images are computed together, in which order, and what happens to those that nobody waits for any longer."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from maskray.platform.serve.model.batching import Batcher, DeadlinePassed


class Model:
    """Computes batches when it is let, and notes them."""

    def __init__(self):
        self.batches = []
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self, items):
        self.begun.set()
        self.go.wait(600)
        self.batches.append(items)
        if "poison" in items:
            raise RuntimeError("poison")
        return [item.upper() for item in items]


def run(scenario, max_batch_size=3, wait_seconds=0.0):
    model = Model()

    async def start():
        with ThreadPoolExecutor(1) as executor:
            return await scenario(model, Batcher(model, executor, max_batch_size, wait_seconds))

    return model, asyncio.run(start())


def submit(batcher, *items, timeout=60):
    """Items are named by their group and a number, as a1."""
    return [asyncio.create_task(batcher.submit(item, item[0], timeout)) for item in items]


def test_it_is_busy_from_the_first_item_to_the_end_of_the_last_batch():
    async def scenario(model, batcher):
        told = [batcher.is_busy]
        tasks = submit(batcher, "a1", "b1")
        await asyncio.to_thread(model.begun.wait, 600)
        told.append(batcher.is_busy)
        model.go.set()
        await asyncio.gather(*tasks)
        return [*told, batcher.is_busy]

    assert run(scenario)[1] == [False, True, False]


def test_batches_hold_one_size_begin_with_the_oldest_and_keep_the_order():
    async def scenario(model, batcher):
        tasks = submit(batcher, "a1", "b1", "a2", "b2", "a3", "a4", "a5", "c1")
        await asyncio.to_thread(model.begun.wait, 600)
        model.go.set()
        return await asyncio.gather(*tasks)

    model, outcomes = run(scenario)
    assert model.batches == [["a1", "a2", "a3"], ["b1", "b2"], ["a4", "a5"], ["c1"]]
    assert outcomes == ["A1", "B1", "A2", "B2", "A3", "A4", "A5", "C1"]


def test_rare_size_does_not_starve_among_many_of_another():
    async def scenario(model, batcher):
        model.go.set()
        rare = None
        common = []
        for number in range(30):
            common += submit(batcher, f"a{number}", f"a{number}'")
            if number == 3:
                (rare,) = submit(batcher, "b")
            await asyncio.sleep(0.001)
        await asyncio.gather(rare, *common)

    model, _ = run(scenario, max_batch_size=1)
    order = [batch[0] for batch in model.batches]
    assert order.index("b") <= 8  # those that came before it, and not the fifty after


def test_idle_model_starts_at_once_and_waits_only_when_told():
    async def scenario(model, batcher):
        model.go.set()
        (first,) = submit(batcher, "a1")
        if told:
            await asyncio.sleep(0)  # the first is seen, and the model waits for others
        else:
            await asyncio.to_thread(model.begun.wait, 600)
        (second,) = submit(batcher, "a2")
        return await asyncio.gather(first, second)

    told = False
    assert run(scenario)[0].batches == [["a1"], ["a2"]]
    told = True
    assert run(scenario, wait_seconds=2.0)[0].batches == [["a1", "a2"]]


def test_what_nobody_waits_for_is_not_computed():
    async def scenario(model, batcher):
        first, cancelled = submit(batcher, "a1"), submit(batcher, "b1")
        late = submit(batcher, "c1", timeout=0.01)
        await asyncio.to_thread(model.begun.wait, 600)
        await asyncio.sleep(0.02)  # past the deadline of the last
        cancelled[0].cancel()
        await asyncio.sleep(0)
        model.go.set()
        return await asyncio.gather(*first, *cancelled, *late, return_exceptions=True)

    model, (first, cancelled, late) = run(scenario)
    assert model.batches == [["a1"]]
    assert first == "A1"
    assert isinstance(cancelled, asyncio.CancelledError)
    assert isinstance(late, DeadlinePassed)


def test_failure_of_a_batch_is_told_to_all_of_it_and_the_next_is_computed():
    async def scenario(model, batcher):
        model.go.set()
        with pytest.raises(RuntimeError, match="poison"):
            await batcher.submit("poison", "p", 60)
        assert batcher.running_seconds == 0
        return await batcher.submit("a1", "a", 60)

    assert run(scenario)[1] == "A1"
