"""Questions through real sockets: each its own answer, failures, clients that give up, replicas that are killed."""

import asyncio
import contextlib
import subprocess
import sys

import pytest

from maskray.platform.job.serve_config import ServeConfig
from maskray.platform.serve.model import direct_line
from maskray.platform.serve.model.direct_line import FOLDER, DirectLines, LineBroken, NoLine, folder_of_lines, listen

REPLICA = """
import asyncio, sys
from maskray.platform.serve.model.direct_line import listen

async def answer(value):
    await asyncio.sleep(value)
    return "answer"

async def main():
    server = await listen(sys.argv[1], sys.argv[2], answer)
    print("there", flush=True)
    await server.serve_forever()

asyncio.run(main())
"""


@pytest.fixture(autouse=True)
def look_often(monkeypatch):
    monkeypatch.setattr(direct_line, "LOOK_SECONDS", 0.0)


@pytest.fixture
def replica(tmp_path):
    """Starts a process that listens under a name in a folder and answers after as many seconds as it is asked for."""
    processes = []

    def start(name):
        command = [sys.executable, "-c", REPLICA, str(tmp_path), name]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout.readline() == "there\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def run(coroutine):
    async def within():
        async with asyncio.timeout(300):
            return await coroutine

    return asyncio.run(within())


def test_each_question_gets_its_own_answer(tmp_path):
    async def answer(data, number):
        await asyncio.sleep(0.001 * (number % 7))
        return number, data[::-1]

    async def ask():
        server = await listen(str(tmp_path), "a", answer)
        lines = DirectLines(str(tmp_path))
        questions = [(bytes([number]) * (5_000_000 if number == 3 else number), number) for number in range(40)]
        answers = await asyncio.gather(*(lines.ask(*question) for question in questions))
        server.close()
        return questions, answers

    questions, answers = run(ask())
    assert answers == [(number, data[::-1]) for data, number in questions]


def test_a_failure_is_told_and_leaves_the_others_alone(tmp_path):
    async def answer(value):
        return 1 / value

    async def ask():
        server = await listen(str(tmp_path), "a", answer)
        lines = DirectLines(str(tmp_path))
        answers = await asyncio.gather(*(lines.ask(value) for value in (1, 0, 2)), return_exceptions=True)
        server.close()
        return answers

    one, error, half = run(ask())
    assert (one, half) == (1.0, 0.5)
    assert isinstance(error, RuntimeError)
    assert str(error) == "ZeroDivisionError: division by zero"


def test_what_nobody_waits_for_is_given_up(tmp_path):
    begun, ended = asyncio.Event(), asyncio.Event()

    async def answer():
        begun.set()
        try:
            await asyncio.sleep(300)
        except asyncio.CancelledError:
            ended.set()
            raise

    async def ask():
        server = await listen(str(tmp_path), "a", answer)
        question = asyncio.create_task(DirectLines(str(tmp_path)).ask())
        await begun.wait()
        question.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await question
        await asyncio.wait_for(ended.wait(), 60)
        server.close()

    run(ask())
    assert begun.is_set()
    assert ended.is_set()


def test_without_a_replica_there_is_no_line(tmp_path):
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(NoLine):
            run(DirectLines(str(folder)).ask(1))


def test_the_replica_with_the_fewest_questions_is_asked(tmp_path):
    asked = {"a": 0, "b": 0}
    release = asyncio.Event()

    def counting(name):
        async def answer():
            asked[name] += 1
            if sum(asked.values()) == 6:
                release.set()
            await release.wait()

        return answer

    async def ask():
        servers = [await listen(str(tmp_path), name, counting(name)) for name in asked]
        lines = DirectLines(str(tmp_path))
        await asyncio.gather(*(lines.ask() for _ in range(6)))
        for server in servers:
            server.close()

    run(ask())
    assert asked == {"a": 3, "b": 3}


def test_a_replica_that_is_killed_breaks_its_line_and_the_next_one_is_found(tmp_path, replica):
    async def ask():
        first = replica("a")
        lines = DirectLines(str(tmp_path))
        question = asyncio.create_task(lines.ask(300))
        assert await lines.ask(0) == "answer"
        first.kill()
        with pytest.raises(LineBroken):
            await question
        first.wait()
        with pytest.raises(NoLine):
            await lines.ask(0)
        assert not (tmp_path / "a").exists(), "what was left behind is taken away"
        replica("b")
        assert await lines.ask(0) == "answer"

    run(ask())


def test_a_path_that_is_too_long_is_no_end(tmp_path):
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    assert run(listen(str(folder), "a", None)) is None


def test_lines_are_for_one_machine_and_a_fixed_number_of_replicas(monkeypatch):
    monkeypatch.delenv(FOLDER, raising=False)
    assert folder_of_lines(ServeConfig()) is None
    monkeypatch.setenv(FOLDER, "/somewhere")
    assert folder_of_lines(ServeConfig(num_replicas=2)) == "/somewhere"
    assert folder_of_lines(ServeConfig(num_replicas=1, max_replicas=2)) is None
