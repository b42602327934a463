"""/openapi.json and the server agree: all checks of schemathesis, on what the description allows and what not."""

import base64

import schemathesis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from routes import app_of
from schemathesis.specs.openapi.checks import negative_data_rejection

from maskray.platform.serve.http.openapi_examples import TINY_PNG

PNG = base64.b64decode(TINY_PNG)
UNKNOWN = "x-schemathesis-unknown"
DEADLINE, DEADLINE_HEADER = "deadline_seconds", "X-Request-Deadline"
TOO_LATE = ["408", "504"]  # a deadline may be so short that it passes; the server has not failed
CHECKS = {
    "not_a_server_error": {"expected-statuses": ["2xx", "3xx", "4xx", *TOO_LATE]},
    "positive_data_acceptance": {"expected-statuses": ["2xx", "404", *TOO_LATE]},
    "negative_data_rejection": {"expected-statuses": ["400", "404", "405", "413", "415", "422", *TOO_LATE]},
}


# What else it may hold is no image.
schemathesis.openapi.media_type("application/octet-stream", st.just(PNG))


async def nothing(data):
    return []


SCHEMA = schemathesis.openapi.from_asgi(
    "/openapi.json",
    app_of(
        nothing, allowed_hosts=("testserver",), tta={"views": {"scales": [64]}}
    ),  # the name by which an application is asked without a network
    config=schemathesis.Config.from_dict({"checks": CHECKS}),
)


def keep_to_what_has_no_words(case, body):
    """A description cannot say what an image is, that options stand once, and that PNG is for one image."""
    is_form = case.media_type == "multipart/form-data"
    if is_form:
        body["image"] = [PNG] * len(body["image"])
    elif "image" in body:
        body["image"] = {"data": TINY_PNG} if isinstance(body["image"], dict) else TINY_PNG
    if "images" in body:
        body["images"] = [TINY_PNG] * len(body["images"])
    if "images" in body or (is_form and len(body["image"]) > 1):
        case.query.pop("format", None)
        body.pop("format", None)
    if DEADLINE in body:
        case.headers.pop(DEADLINE_HEADER, None)
    if DEADLINE_HEADER in case.headers:
        case.query.pop(DEADLINE, None)
    for name in body:
        case.query.pop(name, None)


@SCHEMA.parametrize()
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_what_is_described_is_answered_as_described(case):
    body = case.body if isinstance(case.body, dict) else {}
    if case.meta.generation.mode.is_positive:
        keep_to_what_has_no_words(case, body)
    # Headers that are not described are anybody's.
    excluded = [negative_data_rejection] if any(name.startswith(UNKNOWN) for name in case.headers) else []
    case.call_and_validate(excluded_checks=excluded)


def test_every_operation_names_what_any_may_answer():
    for operation in SCHEMA.get_all_operations():
        responses = operation.ok().definition.raw["responses"]
        assert {"400", "401", "403", "408", "429", "431", "500", "503"} <= set(responses)
