"""Which way an image takes to a replica: directly, by Serve where there is no line, again where it breaks."""

import asyncio
from types import SimpleNamespace

import pytest

from maskray.platform.serve.cluster import gateway
from maskray.platform.serve.cluster.gateway import MOST_TRIES, Gateway
from maskray.platform.serve.http.responses import FailedImage
from maskray.platform.serve.model.direct_line import LineBroken, NoLine

QUESTION = (b"an image", (4, 3), None)


class Response:
    """What Serve's handle gives: to be awaited, or cancelled."""

    def __init__(self, answer):
        self.answer, self.is_cancelled = answer, False

    def __await__(self):
        return self.answer().__await__()

    def cancel(self):
        self.is_cancelled = True


class Ways:
    """A gateway of which only the ways to a replica are there."""

    predict, _ask_replica = Gateway.predict, Gateway._ask_replica


def make_gateway(monkeypatch, line, serve=None):
    """Ways of which `line` and `serve` answer, or raise."""
    one = Ways()
    retries = []
    one._meters = SimpleNamespace(retries=SimpleNamespace(record=lambda: retries.append(1)))
    one._lines = None if line is None else SimpleNamespace(ask=line)
    asked = []

    def remote(*question):
        asked.append(Response(serve))
        return asked[-1]

    one._model = SimpleNamespace(predict=SimpleNamespace(remote=remote))
    monkeypatch.setattr(gateway, "PAUSE_SECONDS", 0.0)
    return one, retries, asked


async def answers(*question):
    return "found"


def test_an_image_goes_directly(monkeypatch):
    one, retries, asked = make_gateway(monkeypatch, answers)
    assert asyncio.run(one.predict(*QUESTION, 60.0)) == "found"
    assert (retries, asked) == ([], [])


@pytest.mark.parametrize("has_lines", [True, False])
def test_without_a_line_it_goes_by_way_of_serve(monkeypatch, has_lines):
    async def no_line(*question):
        raise NoLine

    one, retries, asked = make_gateway(monkeypatch, no_line if has_lines else None, answers)
    assert asyncio.run(one.predict(*QUESTION, 60.0)) == "found"
    assert (retries, len(asked)) == ([], 1)


def test_a_line_that_breaks_is_tried_again_with_the_time_that_is_left(monkeypatch):
    left = []

    async def breaks_once(data, size, options, seconds_left):
        left.append(seconds_left)
        if len(left) == 1:
            await asyncio.sleep(0.01)
            raise LineBroken
        return "found"

    one, retries, _ = make_gateway(monkeypatch, breaks_once)
    assert asyncio.run(one.predict(*QUESTION, 60.0)) == "found"
    assert retries == [1]
    assert left[1] < left[0] - 0.009


def test_an_image_that_breaks_every_line_is_taken_for_the_reason(monkeypatch):
    async def breaks(*question):
        raise LineBroken

    one, retries, _ = make_gateway(monkeypatch, breaks)
    outcome = asyncio.run(one.predict(*QUESTION, 60.0))
    assert outcome == FailedImage(500, f"{MOST_TRIES} replicas died with this image in them")
    assert len(retries) == MOST_TRIES


def test_who_gives_up_takes_the_question_back_from_serve(monkeypatch):
    async def never():
        await asyncio.sleep(600)

    one, _, asked = make_gateway(monkeypatch, None, never)

    async def give_up():
        task = asyncio.create_task(one.predict(*QUESTION, 60.0))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(give_up())
    assert [response.is_cancelled for response in asked] == [True]
