"""The bodies and answers of the interface as its OpenAPI description shows them; the examples are whole and true."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from maskray.platform.job.serve_config import ServeConfig
from maskray.platform.serve.http.parameters import DEADLINE_HEADER, Options
from maskray.platform.serve.http.request_log import ID_HEADER
from maskray.platform.serve.http.responses import BINARY_TYPE

# 2 x 2 pixels, a real PNG.
TINY_PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAFklEQVR4nGO4oyEnd0eDQUPuzq9fvwAjXgZVl1zdggAAAABJRU5ErkJggg=="
)
DETECTION = {
    "category_id": 1,
    "category": "circle",
    "bbox": [12.0, 8.5, 40.0, 38.0],
    "score": 0.97,
    "segmentation": {"size": [2, 2], "counts": "04"},
}
MODEL = {"name": "shapes", "version": "3"}
ANSWER = {
    "model": MODEL,
    "image": {"width": 2, "height": 2},
    "detections": [DETECTION],
    "seconds": {"receive": 0.0004, "wait": 0.0011, "decode": 0.0021, "predict": 0.0832, "total": 0.0891},
}
REFUSED = {"error": "image cannot be decoded: image file is truncated (12 bytes not processed)", "status": 422}
ONE = {"image": TINY_PNG, "score_threshold": 0.5}
SEVERAL = {"images": [TINY_PNG, {"data": TINY_PNG}], "max_detections": 10, "masks": False}


def _error(description: str, message: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"example": {"error": message}}}}


def _binary(description: str) -> dict[str, Any]:
    return {"schema": {"type": "string", "format": "binary", "description": description}}


def _list_of(schema: dict[str, Any], most: int) -> dict[str, Any]:
    return {"type": "array", "items": schema, "minItems": 1, "maxItems": most}


def _options(most_seconds: float) -> dict[str, Any]:
    """The options as properties of a JSON body."""
    options = Options.model_json_schema()["properties"]
    for kind in options["deadline_seconds"]["anyOf"]:
        if kind["type"] == "number":
            kind["maximum"] = most_seconds
    return dict(options)


def _parameter(name: str, where: str, schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter of query or header, which cannot be null as a value of JSON can."""
    kinds = [kind for kind in schema.get("anyOf", []) if kind.get("type") != "null"]
    plain = {key: value for key, value in schema.items() if key not in ("anyOf", "default")}
    own = {**plain, **kinds[0]} if kinds else schema
    return {"name": name, "in": where, "description": schema["description"], "schema": own}


def _headers(most_seconds: float) -> dict[str, dict[str, Any]]:
    seconds = {"type": "number", "exclusiveMinimum": 0, "maximum": most_seconds, "description": "As deadline_seconds."}
    return {
        DEADLINE_HEADER: seconds,
        ID_HEADER: {"type": "string", "description": "Comes back with the answer; else one is made."},
    }


_BASE64 = {"type": "string", "contentEncoding": "base64"}
_IMAGE = {
    "oneOf": [
        _BASE64,
        {
            "type": "object",
            "properties": {"data": _BASE64},
            "required": ["data"],
            "additionalProperties": False,
        },
    ]
}


def predict_body(config: ServeConfig) -> dict[str, Any]:
    """Parameters and bodies of a prediction, as far as the server offers them and with its limits."""
    most_images, most_seconds = config.most_images, config.deadline_seconds
    options, headers = _options(most_seconds), _headers(most_seconds)
    if config.tta is None:
        del options["tta"]
    else:
        options["tta"]["description"] += f" They are {config.tta.views.num_views}, and each takes a place in the queue."
    form = {
        "type": "object",
        "properties": {
            "image": _list_of({"type": "string", "format": "binary"}, most_images) | {"description": "Encoded images."}
        },
        "required": ["image"],
        "additionalProperties": False,
    }
    tree = {
        "type": "object",
        "properties": {
            "image": _IMAGE | {"description": "An encoded image."},
            "images": _list_of(_IMAGE, most_images) | {"description": "Several, answered together in their order."},
            **options,
        },
        "oneOf": [{"required": ["image"]}, {"required": ["images"]}],
        "additionalProperties": False,
    }
    content = {
        "image/*": _binary("An encoded image: JPEG, PNG, WEBP, BMP, GIF or TIFF."),
        "application/octet-stream": _binary("An encoded image, of whichever of these kinds it is."),
        "multipart/form-data": {"schema": form},
        "application/json": {
            "schema": tree,
            "examples": {"one image": {"value": ONE}, "several images": {"value": SEVERAL}},
        },
    }
    return {
        "parameters": [
            *(_parameter(name, "query", schema) for name, schema in options.items()),
            *(_parameter(name, "header", schema) for name, schema in headers.items()),
        ],
        "requestBody": {"required": True, "content": content},
    }


_NO_KEY = _error("No API key that is known here, where keys are asked for.", "this API key is not known here")
_ELSEWHERE = _error("A page of another origin, or a foreign Host.", "pages of https://a.example may not ask; ...")
_FAILED = _error("The server failed.", "the server failed on this request; its log says why")
_EVERYWHERE = {
    "400": _error("Not HTTP.", "Invalid HTTP request received."),
    "401": _NO_KEY,
    "403": _ELSEWHERE,
    "408": _error("The headers did not arrive in time.", "the headers did not arrive within 10 s"),
    "429": _error("Too many connections of one client.", "more than 128 connections of one client"),
    "431": _error("More than 64 kB of headers.", "the headers have more than 65536 bytes"),
    "500": _FAILED,
    "503": _error("Too many connections of all clients.", "the server has too many connections, try again in a moment"),
}
_FASTAPIS = "#/components/schemas/HTTPValidationError"
PREDICT_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Objects found, as COCO results with names; or the image, or tensors.",
        "content": {
            "application/json": {
                "examples": {
                    "one image": {"value": ANSWER},
                    "several images": {
                        "value": {"results": [ANSWER, REFUSED], "errors": 1, "seconds": {"total": 0.1204}}
                    },
                }
            },
            "image/png": _binary("format=png: the image with the objects drawn on it."),
            BINARY_TYPE: _binary("format=binary: safetensors, see docs/serving.md."),
        },
    },
    401: _NO_KEY,
    403: _ELSEWHERE,
    408: _error("The body did not arrive in time.", "the request did not arrive within 60 s"),
    413: _error("Too many bytes, pixels, images or views.", "the image is larger than the 20000000 bytes allowed"),
    415: _error("Not an image.", "content type text/plain is not an image"),
    422: _error("Broken image, unknown or unfit parameter.", "parameter score_threshold: Input should be ..."),
    500: _FAILED,
    503: _error(
        "The queue is full, or the server is ending; Retry-After says when to come back.", "the server is busy"
    ),
    504: _error("The deadline passed.", "the deadline of 60 s passed"),
}
MODELS_RESPONSES: dict[int | str, dict[str, Any]] = {
    422: _error("A parameter, of which there are none.", "unknown parameter 'version'; there are none here"),
    200: {
        "content": {
            "application/json": {
                "example": {
                    "models": [
                        {"name": "shapes", "version": "4", "state": "failed", "replicas": 0, "error": "damaged"},
                        {"name": "shapes", "version": "3", "state": "serving", "replicas": 1, "error": None},
                    ],
                    "follows": {"alias": "champion", "version": "4", "registry_error": None},
                }
            }
        }
    },
}


def describe_errors(app: FastAPI) -> None:
    """Let the description of an application name, for every operation, what any of them may answer."""
    describe = app.openapi

    def with_errors() -> dict[str, Any]:
        tree = describe()
        tree.pop("components", None)  # FastAPI's own form of a 422, in which nothing is answered here
        for operations in tree["paths"].values():
            for operation in operations.values():
                own = {code: one for code, one in operation["responses"].items() if _FASTAPIS not in str(one)}
                operation["responses"] = _EVERYWHERE | own
        return tree

    app.openapi = with_errors  # type: ignore[method-assign]  # as FastAPI says that it is extended
