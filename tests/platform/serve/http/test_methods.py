"""HEAD answers as GET does without a body, and OPTIONS and 405 name the methods there are."""

import pytest

PATHS = ("/", "/style.css", "/healthz", "/metrics", "/openapi.json", "/v1/model", "/v1/models", "/v1/samples")


async def unreachable(data):
    raise AssertionError("no image was sent")


def request(ask, method, *paths):
    return ask(unreachable, *({"method": method, "url": path} for path in paths))


def test_head_is_get_without_its_body(ask):
    for path in PATHS:
        got, head = (request(ask, method, path)[0] for method in ("GET", "HEAD"))
        assert (got.status_code, head.status_code) == (200, 200), path
        assert head.content == b""
        assert set(head.headers) == set(got.headers)
        if path != "/metrics":
            assert head.headers["content-length"] == got.headers["content-length"] == str(len(got.content))


@pytest.mark.parametrize("method", ["OPTIONS", "HEAD"])
def test_unknown_path_is_none(ask, method):
    assert request(ask, method, "/v1/nowhere")[0].status_code == 404


def test_options_names_the_methods(ask):
    for answer in request(ask, "OPTIONS", *PATHS):
        assert (answer.status_code, answer.content) == (204, b"")
        assert answer.headers["allow"] == "GET, HEAD, OPTIONS"
        assert "content-length" not in answer.headers
    (predict,) = request(ask, "OPTIONS", "/v1/predict")
    assert (predict.status_code, predict.headers["allow"]) == (204, "OPTIONS, POST")


def test_method_that_there_is_not_is_refused_by_name(ask):
    (answer,) = request(ask, "DELETE", "/healthz")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
    assert answer.json() == {"error": "DELETE /healthz: Method Not Allowed"}
    (answer,) = request(ask, "HEAD", "/v1/predict")
    assert (answer.status_code, answer.headers["allow"], answer.content) == (405, "OPTIONS, POST", b"")
