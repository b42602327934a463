"""Pages of elsewhere make the model run only where their origin is named; no foreign name is answered on loopback."""

import pytest

from maskray.platform.serve.http.origin_check import is_loopback

ELSEWHERE = "https://a.example"
FORM = {"content": b"x", "headers": {"Content-Type": "image/png"}}


async def unreachable(data):
    raise AssertionError("a refused request reached the model")


async def nothing(data):
    return []


def statuses(ask, *headers, method="GET", url="/v1/models", **config):
    requests = [{"method": method, "url": url, "headers": given} for given in headers]
    return [answer.status_code for answer in ask(unreachable, *requests, **config)]


@pytest.mark.parametrize(
    ("host", "answered"),
    [
        ("127.0.0.1:8000", True),
        ("127.0.0.2", True),
        ("localhost:9", True),
        ("LOCALHOST", True),
        ("maskray.localhost:8000", True),
        ("[::1]:8000", True),
        ("a.example", False),
        ("127.0.0.1.a.example:8000", False),
        ("a.example@127.0.0.1", False),
        ("127.0.0.1/a.example", False),
        ("10.0.0.7:8000", False),
        ("localhost:port", False),
        ("", False),
    ],
)
def test_foreign_name_is_refused_on_loopback_alone(ask, host, answered):
    """A page whose name is made to point here is of the same origin for its browser."""
    assert statuses(ask, {"Host": host}) == [200 if answered else 403]
    assert statuses(ask, {"Host": host}, host="0.0.0.0") == [200]
    assert statuses(ask, {"Host": host}, host="::1", allowed_hosts=("A.example", "10.0.0.7"))[0] == (
        200 if answered or host in ("a.example", "10.0.0.7:8000") else 403
    )


def test_refusal_says_what_to_do(ask):
    (answer,) = ask(unreachable, FORM | {"headers": {"Host": "a.example"}})
    assert answer.status_code == 403
    assert answer.json() == {"error": "this server is not a.example; serve.allowed_hosts names others than its own"}
    (answer,) = ask(unreachable, FORM | {"headers": {"Origin": ELSEWHERE}})
    assert answer.json()["error"] == f"pages of {ELSEWHERE} may not ask; serve.cors_origins names those that may"


CROSS = [
    {"Origin": ELSEWHERE},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:3000"},
    {"Origin": "http://127.0.0.1:8000/x"},
    {"Origin": "http://user@127.0.0.1:8000"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "http://127.0.0.1:8000"},
    {"Sec-Fetch-Site": "cross-site", "Origin": ELSEWHERE, "Sec-Fetch-Mode": "navigate"},  # a form that is posted
]
OWN = [
    {},
    {"Origin": "http://127.0.0.1:8000"},
    {"Origin": "https://127.0.0.1", "Host": "127.0.0.1:443"},  # of a proxy with TLS
    {"Sec-Fetch-Site": "same-origin", "Origin": "https://public.example"},  # of one that names this host itself
    {"Sec-Fetch-Site": "none"},
]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_pages_of_elsewhere_are_refused_and_our_own_is_not(ask, method):
    """A form posted by any page made the model run."""
    url = {"GET": "/v1/models", "POST": "/v1/predict"}[method]
    assert statuses(ask, *CROSS, method=method, url=url) == [403] * len(CROSS)
    assert 403 not in statuses(ask, *OWN, method=method, url=url)


def test_link_to_the_page_is_followed_but_nothing_else(ask):
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert statuses(ask, link, url="/") == [200]
    assert statuses(ask, link, url="/v1/predict", method="POST") == [403]
    assert statuses(ask, link | {"Sec-Fetch-Mode": "no-cors"}, url="/") == [403]


def test_named_origins_may_ask(ask):
    headers = {"Sec-Fetch-Site": "cross-site", "Origin": ELSEWHERE}
    assert statuses(ask, headers, cors_origins=(ELSEWHERE,)) == [200]
    assert statuses(ask, headers, cors_origins=("*",)) == [200]
    assert statuses(ask, headers, cors_origins=("https://b.example",)) == [403]


@pytest.mark.parametrize(
    ("host", "here"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False), ("a.example", False)],
)
def test_addresses_of_this_machine_alone(host, here):
    assert is_loopback(host) is here
