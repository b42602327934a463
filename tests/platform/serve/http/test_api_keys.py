"""API keys: what is stored tells no key, what is valid is found, and a change of the file counts at once."""

import asyncio
import os
import re
import stat
import threading

import pytest

from maskray.platform.serve.http import api_keys as module
from maskray.platform.serve.http.api_keys import KeyRing, add_key, read_keys, remove_key

BINARY = {"Content-Type": "application/octet-stream"}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "keys.jsonl"


async def nothing(data):
    return []


def test_stored_is_a_salted_hash_for_the_owner_alone(path):
    one, two = add_key(path, "one"), add_key(path, "two")
    text = path.read_text()
    assert re.fullmatch(r"maskray\.one\.[\w-]{43}", one)
    for key in (one, two):
        assert key.rpartition(".")[2] not in text
    assert len({key.salt for key in read_keys(path)}) == 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == [path.name]


def test_valid_keys_are_found_and_others_are_not(path):
    one, two = add_key(path, "one"), add_key(path, "two")
    other = one.rpartition(".")[2]

    async def find():
        ring = KeyRing(path)
        tried = [
            one,
            two,
            one,
            f"maskray.two.{other}",
            f"maskray.one.{other}x",
            f"one.{other}",
            "",
            "maskray.one.",
            one,
        ]
        return [await ring.find(key) for key in tried]

    assert asyncio.run(find()) == ["one", "two", "one", None, None, None, None, None, "one"]


def test_hash_is_computed_once_for_a_key(path, monkeypatch):
    key = add_key(path, "one")
    computed = []
    hashed = module._hash
    monkeypatch.setattr(module, "_hash", lambda *given: computed.append(1) or hashed(*given))

    async def find():
        ring = KeyRing(path)
        at_once = await asyncio.gather(*(ring.find(key) for _ in range(5)))
        return [*at_once, *[await ring.find(tried) for tried in (key, key + "x", key + "x", "maskray.unknown.x")]]

    assert asyncio.run(find()) == ["one"] * 6 + [None] * 3
    assert len(computed) == 2


def test_guesses_hold_up_no_request_with_a_known_key(path, monkeypatch):
    key, begun, go = add_key(path, "one"), threading.Event(), threading.Event()

    async def find():
        ring = KeyRing(path)
        await ring.find(key)
        monkeypatch.setattr(module, "_hash", lambda *given: begun.set() or (go.wait(600) and b""))
        guesses = [asyncio.create_task(ring.find(f"{key}{number}")) for number in range(100)]
        while not begun.is_set():
            await asyncio.sleep(0.01)
        try:
            async with asyncio.timeout(300):
                # What other parts of the server do in threads goes on as well.
                return await ring.find(key), await asyncio.to_thread(int), {guess.done() for guess in guesses}
        finally:
            go.set()
            assert await asyncio.gather(*guesses) == [None] * 100

    assert asyncio.run(find()) == ("one", 0, {False})


def test_wrong_guesses_make_no_good_key_unknown(path, monkeypatch):
    key, computed = add_key(path, "one"), []
    hashed = module._hash
    monkeypatch.setattr(module, "_hash", lambda *given: computed.append(1) or hashed(*given))
    monkeypatch.setattr(module, "MOST_REMEMBERED", 2)

    async def find():
        ring = KeyRing(path)
        return [await ring.find(tried) for tried in (key, *(f"{key}{number}" for number in range(5)), key)]

    assert asyncio.run(find()) == ["one", *[None] * 5, "one"]
    assert len(computed) == 6


def test_change_of_the_file_counts_and_a_file_that_is_gone_lets_nobody_in(path, monkeypatch):
    monkeypatch.setattr(module, "LOOK_AGAIN_SECONDS", 0.0)
    one = add_key(path, "one")

    async def find():
        ring, found = KeyRing(path), []
        found.append(await ring.find(one))
        two = add_key(path, "two")
        found += [await ring.find(one), await ring.find(two)]
        remove_key(path, "one")
        found += [await ring.find(one), await ring.find(two)]
        path.unlink()
        found.append(await ring.find(two))
        return found

    assert asyncio.run(find()) == ["one", "one", "two", None, "two", None]


def test_file_that_was_damaged_is_told_once_in_the_log(path, monkeypatch, caplog):
    monkeypatch.setattr(module, "LOOK_AGAIN_SECONDS", 0.0)
    key = add_key(path, "one")
    good = path.read_text()

    async def find():
        ring, found = KeyRing(path), []
        for text in (good + "no key\n", good, good + "no key\n"):
            path.write_text(text)
            found += [await ring.find(key), await ring.find(key)]
        return found

    assert asyncio.run(find()) == [None, None, "one", "one", None, None]
    assert len(caplog.messages) == 2
    assert "nobody is let in" in caplog.text
    assert "line 2 is not a stored key" in caplog.text


@pytest.mark.parametrize("name", ["", "a b", "a.b", "-a", "a" * 101])
def test_name_that_is_not_plain_is_refused(path, name):
    with pytest.raises(ValueError, match="not a plain name"):
        add_key(path, name)
    assert not path.exists()


@pytest.mark.parametrize("line", ["no json", "{}", '{"name":"a","created":"","salt":"?","scrypt":"AA=="}', "\x00"])
def test_damaged_file_is_refused_by_line(path, line):
    add_key(path, "one")
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(ValueError, match=r"keys\.jsonl: line 2 is not a stored key"):
        KeyRing(path)


def test_routes_ask_for_a_key_but_for_page_health_and_description(ask, path, png):
    key = add_key(path, "probe")
    post = {"content": png, "headers": BINARY}
    closed = [post, *({"method": "GET", "url": url} for url in ("/v1/model", "/v1/models", "/metrics", "/nowhere"))]
    free = [{"method": "GET", "url": url} for url in ("/", "/style.css", "/healthz", "/openapi.json", "/v1/samples")]
    answers = ask(nothing, *closed, *free, api_keys_file=str(path))
    assert [answer.status_code for answer in answers] == [401] * len(closed) + [200] * len(free)
    assert answers[0].json() == {"error": "an API key is needed: Authorization: Bearer KEY"}
    given = [{"Authorization": f"Bearer {key}"}, {"X-API-Key": key}, {"Authorization": f"Bearer {key}x"}]
    found = ask(nothing, *(post | {"headers": BINARY | one} for one in given), api_keys_file=str(path))
    assert [answer.status_code for answer in found] == [200, 200, 401]
    assert found[2].json() == {"error": "this API key is not known here"}
