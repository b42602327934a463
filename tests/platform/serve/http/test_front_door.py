"""What is taken out of a request before Ray sees it."""

import asyncio

import pytest
from ray.serve._private.http_util import RequestIdMiddleware, parse_disconnect_disabled_header, parse_session_id_header

from maskray.platform.serve.http.front_door import layers

ID = b"x-request-id"


def pass_on(*headers):
    """The headers that the application sees, and those of its answer, with Ray's layer between."""
    seen, sent = [], []

    async def app(scope, receive, send):
        seen.extend(scope["headers"])
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message):
        sent.extend(message["headers"])

    whole = RequestIdMiddleware(app)
    for layer in layers():
        whole = layer.cls(whole, *layer.args, **layer.kwargs)
    asyncio.run(whole({"type": "http", "path": "/", "headers": list(headers)}, None, send))
    return seen, sent


@pytest.mark.parametrize("given", [b"\xff\xfe", "ü".encode(), b"a b", b"", b"a" * 129, b"a\tb"])
def test_id_that_may_not_stand_in_a_log_is_replaced(given):
    """Ray decodes it before the application is asked: other bytes than UTF-8 were a 500 without a line."""
    seen, sent = pass_on((ID, given), (b"accept", b"*/*"))
    (ours,) = [value for name, value in seen if name == ID]
    assert sent == [(ID, ours)]
    assert ours.decode("ascii").isascii()
    assert ours != given
    assert (b"accept", b"*/*") in seen


def test_id_that_may_comes_back():
    assert pass_on((ID, b"mine-1.A_"))[1] == [(ID, b"mine-1.A_")]


def test_headers_that_tell_ray_what_to_do_are_taken_out():
    given = [
        (b"x-request-disconnect-disabled", b"?1"),
        (b"x-request-timeout-seconds", b"-1"),
        (b"x-session-id", b"\xff"),
        (b"serve_multiplexed_model_id", b"\xff"),
        (b"serve-multiplexed-model-id", b"a"),
    ]
    assert parse_disconnect_disabled_header(dict(given)), "the name is the one that Ray reads"
    with pytest.raises(UnicodeDecodeError):
        parse_session_id_header(dict(given))
    assert [name for name, _ in pass_on(*given)[0]] == [ID]
