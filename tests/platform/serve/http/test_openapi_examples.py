"""Whatever /openapi.json allows is taken, or refused with a status that it names."""

import asyncio
import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskray.platform.job.serve_config import ServeConfig
from maskray.platform.serve.http.app import build_app
from maskray.platform.serve.http.auth import Places
from maskray.platform.serve.http.metrics import ServerMetrics
from maskray.platform.serve.http.openapi_examples import TINY_PNG

BOUNDARY = "0a1b2c"
CONFIG = ServeConfig()
METRICS = ServerMetrics()
TREE = build_app(CONFIG, None, METRICS, Places(8, METRICS)).openapi()
OPERATIONS = [(path, method) for path, methods in TREE["paths"].items() for method in methods]
# Letters that may stand in a header as a client sends it; the server trims space at the ends.
HEADER_TEXT = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=150)


def values(schema):
    """Values that a schema of ours allows; a kind of schema that is not known here is an error."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    for union in ("anyOf", "oneOf"):
        if union in schema and "type" not in schema:
            return st.one_of(*map(values, schema[union]))
    kind = schema["type"]
    if kind in ("number", "integer"):
        if kind == "integer":
            return st.integers(schema.get("minimum"), schema.get("maximum"))
        least = schema.get("minimum", schema.get("exclusiveMinimum"))
        bounds = {"min_value": least, "max_value": schema.get("maximum"), "exclude_min": "exclusiveMinimum" in schema}
        return st.floats(**bounds, allow_nan=False, allow_infinity=False)
    if kind == "array":
        return st.lists(values(schema["items"]), min_size=schema.get("minItems", 0), max_size=20)
    if kind == "object":
        return objects(schema)
    if kind == "string":
        image = base64.b64decode(TINY_PNG)
        if schema.get("format") == "binary":
            return st.just(image) | st.binary(max_size=100)
        if schema.get("contentEncoding") == "base64":
            return st.just(TINY_PNG) | st.binary(max_size=100).map(lambda data: base64.b64encode(data).decode())
        return st.text(max_size=50)
    return {"boolean": st.booleans(), "null": st.none()}[kind]


@st.composite
def objects(draw, schema):
    assert not {"patternProperties", "allOf", "$ref"} & set(schema)
    required = set(schema.get("required", ())) | set(
        draw(st.sampled_from(schema.get("oneOf", [{}]))).get("required", ())
    )
    excluded = {name for branch in schema.get("oneOf", ()) for name in branch["required"]} - required
    names = [name for name in schema["properties"] if name not in excluded]
    return {name: draw(values(schema["properties"][name])) for name in names if name in required or draw(st.booleans())}


@st.composite
def requests(draw, path, method):
    """A request as httpx takes it."""
    operation = TREE["paths"][path][method]
    request = {"method": method.upper(), "url": path, "params": {}, "headers": {}}
    for parameter in operation.get("parameters", ()):
        name, schema = parameter["name"], parameter["schema"]
        if parameter["in"] == "path":
            given = draw(
                st.just("scene-1.jpg") | st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=20)
            )
            request["url"] = request["url"].replace("{" + name + "}", given)
        elif parameter.get("required") or draw(st.integers(0, 3)) == 0:
            value = draw(HEADER_TEXT if parameter["in"] == "header" and schema["type"] == "string" else values(schema))
            text = str(value).lower() if isinstance(value, bool) else str(value)
            request["params" if parameter["in"] == "query" else "headers"][name] = text
    if "requestBody" in operation:
        kind, media = draw(
            st.sampled_from(sorted(operation["requestBody"]["content"].items(), key=lambda pair: pair[0]))
        )
        body = draw(values(media["schema"]))
        if kind == "application/json":
            request["json"] = body
        elif kind == "multipart/form-data":
            request["files"] = [("image", data) for data in body["image"]]
        else:
            request["content"] = body
            request["headers"]["Content-Type"] = kind.replace("*", "png")
    return request


async def nothing(data):
    return []


@pytest.fixture(scope="module")
def client(client_of):
    """One application for all requests."""
    return client_of(nothing)


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_what_the_description_allows_is_taken_or_refused_as_it_says(client, path, method, data):
    request = data.draw(requests(path, method))

    answer = asyncio.run(client.request(**request))
    described = TREE["paths"][path][method]["responses"]
    assert str(answer.status_code) in described, (request, answer.text)
    assert answer.status_code < 500 or answer.status_code == 504, (request, answer.text)  # deadlines may be short
    kinds = described[str(answer.status_code)].get("content", {})
    assert not kinds or answer.headers["content-type"].partition(";")[0] in {kind.partition(";")[0] for kind in kinds}


def option_values():
    post = TREE["paths"]["/v1/predict"]["post"]
    return [(p["name"], p["schema"]) for p in post["parameters"] if p["in"] == "query"]


@pytest.mark.parametrize(("name", "schema"), option_values())
@settings(deadline=None, max_examples=20)
@given(data=st.data())
def test_every_value_of_an_option_is_accepted(client, name, schema, data):
    value = data.draw(values(schema | ({"maximum": 60} if name == "deadline_seconds" else {})))
    if name == "deadline_seconds":
        value = max(value, 1.0)  # shorter ones may pass before the answer
    text = str(value).lower() if isinstance(value, bool) else value

    answer = asyncio.run(client.post("/v1/predict", content=base64.b64decode(TINY_PNG), params={name: text}))
    assert answer.status_code == 200, answer.text


def test_every_operation_names_what_any_may_answer():
    for path, method in OPERATIONS:
        assert {"400", "401", "403", "408", "429", "431", "500", "503"} <= set(TREE["paths"][path][method]["responses"])
