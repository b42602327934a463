"""API keys: what is stored tells no key, what is valid is found, and a change of the file counts at once."""

import asyncio
import base64
import hashlib
import json
import os
import re
import secrets
import stat
import threading

import pytest

from maskray.platform.serve.http import api_keys as module
from maskray.platform.serve.http.api_keys import KeyRing, add_key, read_keys, remove_key

BINARY = {"Content-Type": "application/octet-stream"}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "keys.jsonl"


def add_old_key(path, name):
    """As versions of before wrote it: a salted scrypt hash."""
    secret, salt = secrets.token_urlsafe(32), secrets.token_bytes(16)
    hashed = hashlib.scrypt(secret.encode(), salt=salt, n=2**14, r=8, p=1)
    text = {"salt": base64.b64encode(salt).decode(), "scrypt": base64.b64encode(hashed).decode()}
    with path.open("a") as file:
        file.write(json.dumps({"name": name, "created": "2026-01-01T00:00:00+00:00"} | text) + "\n")
    return f"maskray.{name}.{secret}"


async def nothing(data):
    return []


def test_stored_is_a_hash_for_the_owner_alone(path):
    one, two = add_key(path, "one"), add_key(path, "two")
    text = path.read_text()
    assert re.fullmatch(r"maskray\.one\.[\w-]{43}", one)
    for key in (one, two):
        assert key.rpartition(".")[2] not in text
    assert [key.sha256 for key in read_keys(path)] == [
        hashlib.sha256(key.rpartition(".")[2].encode()).hexdigest() for key in (one, two)
    ]
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


def test_files_of_before_are_read_and_may_be_added_to(path):
    old, new = add_old_key(path, "old"), add_key(path, "new")
    before = path.read_text().splitlines()[0]
    assert json.loads(before).keys() == {"name", "created", "salt", "scrypt"}
    wrong = [old + "x", new + "x", f"maskray.other.{old.rpartition('.')[2]}", f"x.old.{old.rpartition('.')[2]}"]

    async def find():
        ring = KeyRing(path)
        return [await ring.find(key) for key in (old, new, *wrong, old, new)]

    assert asyncio.run(find()) == ["old", "new", *[None] * 4, "old", "new"]


@pytest.mark.parametrize("has_old", [False, True])
def test_name_that_is_not_known_is_as_much_work_as_one_that_is(path, monkeypatch, has_old):
    """Unknown names were answered at once, and known ones after a scrypt: so they could be told apart."""
    add_key(path, "new")
    if has_old:
        add_old_key(path, "old")
    work = []
    for name in ("_sha256", "_scrypt"):
        hashed = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *given, n=name, h=hashed: work.append(n) or h(*given))

    async def find(key):
        work.clear()
        assert await KeyRing(path).find(key) is None
        return list(work)

    names = ("maskray.new.x", "maskray.old.x", "maskray.unknown.x", "maskray.", "x.new.x", "none")
    assert [asyncio.run(find(name)) for name in names] == [["_sha256", "_scrypt"] if has_old else ["_sha256"]] * 6


def test_hash_of_before_is_computed_once_for_a_key(path, monkeypatch):
    key = add_old_key(path, "one")
    computed = []
    hashed = module._scrypt
    monkeypatch.setattr(module, "_scrypt", lambda *given: computed.append(1) or hashed(*given))

    async def find():
        ring = KeyRing(path)
        at_once = await asyncio.gather(*(ring.find(key) for _ in range(5)))
        return [*at_once, *[await ring.find(tried) for tried in (key, key + "x", key + "x")]]

    assert asyncio.run(find()) == ["one"] * 6 + [None] * 2
    assert len(computed) == 2


def test_guesses_hold_up_neither_known_keys_nor_first_uses_from_elsewhere(path, monkeypatch):
    """400 wrong secrets in one queue delayed the first use of a good key by half a minute."""
    old, other, new = add_old_key(path, "old"), add_old_key(path, "other"), add_key(path, "new")
    begun, go, hashed, order = threading.Event(), threading.Event(), module._scrypt, []

    def slowly(secret, salt):
        order.append(secret)
        begun.set()
        go.wait(600)
        return hashed(secret, salt)

    async def find():
        ring = KeyRing(path)
        await ring.find(old, "a client")
        monkeypatch.setattr(module, "_scrypt", slowly)
        guesses = [asyncio.create_task(ring.find(f"{old}{number}", "one who guesses")) for number in range(20)]
        while not begun.is_set():
            await asyncio.sleep(0.01)
        async with asyncio.timeout(300):
            # What other parts of the server do in threads goes on as well.
            known = await ring.find(old), await ring.find(new), await asyncio.to_thread(int)
            unknown = {guess.done() for guess in guesses}
            first = asyncio.create_task(ring.find(other, "a client"))
            await asyncio.sleep(0.05)
            go.set()
            return known, unknown, await first, await asyncio.gather(*guesses)

    try:
        assert asyncio.run(find()) == (("old", "new", 0), {False}, "other", [None] * 20)
    finally:
        go.set()
    assert order.index(other.rpartition(".")[2]) <= 2, "after the guess in work, and one of before it at most"


def test_wrong_guesses_make_no_good_key_unknown(path, monkeypatch):
    key, computed = add_old_key(path, "one"), []
    hashed = module._scrypt
    monkeypatch.setattr(module, "_scrypt", lambda *given: computed.append(1) or hashed(*given))
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


@pytest.mark.parametrize(
    "line",
    [
        "no json",
        "{}",
        '{"name":"a","created":""}',
        '{"name":"a","created":"","sha256":"00"}',
        '{"name":"a","created":"","sha256":"zz"}',
        '{"name":"a","created":"","salt":"?","scrypt":"AA=="}',
        "\x00",
    ],
)
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
