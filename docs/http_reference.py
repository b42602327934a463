"""Makes docs/reference/http.md: what the server answers, from its OpenAPI description; write_reference.py writes it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from schema_words import cell, default_text, slug, type_text

from maskray.platform.job.serve_config import ServeConfig, ServeTTAConfig
from maskray.platform.serve.http.app import build_app
from maskray.platform.serve.http.auth import Places
from maskray.platform.serve.http.metrics import ServerMetrics

TOP = """# What the server answers

*Written by `python docs/write_reference.py` from what a server tells at `/openapi.json`.*

`maskray serve MODEL` answers at http://127.0.0.1:8000. The limits below are those of a server of which nothing else is
said; the keys of [serve](config.md#serve) change them. The option `tta` is there where `serve.tta` is set. A server
with `--api-keys` wants a key in the header `Authorization: Bearer KEY` or `X-API-Key: KEY`, but for `/healthz`,
`/openapi.json`, `/v1/samples` and the page at `/`.
"""
ERRORS = """## Errors

Every error but the 503 of `/healthz` is JSON with one line that says what is wrong: `{"error": "..."}`. With the
errors 429 and 503 the header `Retry-After` says after how many seconds to come back. These may come from every path:

| status | meaning | example |
|---|---|---|
"""
PLAIN = "Successful Response"  # as FastAPI calls it where nothing is said


def describe_server() -> dict[str, Any]:
    """The OpenAPI description of a server that offers everything; no model is loaded for it."""
    config, metrics = ServeConfig(tta=ServeTTAConfig()), ServerMetrics()
    no_backend: Any = None  # it is asked when a request comes, and none does
    return build_app(config, no_backend, metrics, Places(config.most_waiting, metrics)).openapi()


def write_page() -> str:
    """The whole page."""
    operations = [
        (f"{method.upper()} {path}", operation)
        for path, methods in describe_server()["paths"].items()
        for method, operation in methods.items()
    ]
    operations.sort(key=lambda one: (not one[0].startswith("POST"), "samples" in one[0]))  # what most come for first
    everywhere = _common([operation["responses"] for _, operation in operations])
    rows = ["| request | what it answers |", "|---|---|"]
    rows += [f"| [{name}](#{slug(name)}) | {cell(operation['description'])} |" for name, operation in operations]
    parts = [TOP, "\n".join([*rows, "| [errors](#errors) | What all of them may answer. |"]) + "\n"]
    parts += ["\n".join(_section(name, operation, everywhere)) for name, operation in operations]
    lines = [f"| {status} | {cell(one['description'])} | {cell(_message(one))} |" for status, one in everywhere.items()]
    return "\n".join([*parts, ERRORS + "\n".join(lines) + "\n"])


def _common(responses: list[dict[str, Any]]) -> dict[str, Any]:
    """Errors that every operation names, in the form that most have; one that means more by it says so itself."""
    everywhere = {}
    for status in sorted(set.intersection(*(set(one) for one in responses)) - {"200"}):
        forms = [one[status] for one in responses]
        everywhere[status] = max(forms, key=forms.count)
    return everywhere


def _message(response: dict[str, Any]) -> str:
    example = response.get("content", {}).get("application/json", {}).get("example", {})
    return f"`{example['error']}`" if "error" in example else ""


def _section(name: str, operation: dict[str, Any], everywhere: dict[str, Any]) -> Iterator[str]:
    """Lines about one operation."""
    yield from (f"## {name}", "", operation["description"], "")
    if operation.get("parameters"):
        yield from ("| parameter | where | type and range | default | what it is |", "|---|---|---|---|---|")
        yield from (_parameter_row(one) for one in operation["parameters"])
        yield ""
    if "requestBody" in operation:
        yield from _body(operation["requestBody"]["content"])
    yield from ("| status | meaning | example |", "|---|---|---|")
    for status, one in sorted(operation["responses"].items()):
        if one != everywhere.get(status):
            meaning = "What was asked for." if one["description"] == PLAIN else one["description"]
            yield f"| {status} | {cell(meaning)} | {cell(_message(one))} |"
    yield from ("", "And what [every path](#errors) may answer.", "")
    yield from _examples(operation["responses"]["200"].get("content", {}))


def _parameter_row(one: dict[str, Any]) -> str:
    schema = one["schema"]
    default = default_text(schema, one.get("required", False)) if "default" in schema or one.get("required") else ""
    words = one.get("description", "")
    return f"| `{one['name']}` | {one['in']} | {cell(type_text(schema, str))} | {default} | {cell(words)} |"


def _body(content: dict[str, Any]) -> Iterator[str]:
    """The bodies that are taken: what each is, and the keys of those that have keys."""
    yield from ("| body: Content-Type | what it is |", "|---|---|")
    for kind, body in content.items():
        fields = ", ".join(f"`{key}`" for key in body["schema"].get("properties", {}))
        yield f"| `{kind}` | {cell(body['schema'].get('description') or f'Fields: {fields}.')} |"
    yield ""
    for kind, body in content.items():
        properties = body["schema"].get("properties", {})
        if properties:
            yield from (
                f"Fields of `{kind}`:",
                "",
                "| field | type and range | default | what it is |",
                "|---|---|---|---|",
            )
            for key, schema in properties.items():
                default = default_text(schema, False) if "default" in schema else ""
                words = cell(schema.get("description", ""))
                yield f"| `{key}` | {cell(type_text(schema, str))} | {default} | {words} |"
            yield from ("", *_choice(body["schema"]))
        yield from _shown(f"`{kind}`", body.get("examples", {}))


def _choice(schema: dict[str, Any]) -> list[str]:
    """Which fields have to be there, in words."""
    choices = [*schema.get("oneOf", []), *([schema] if "required" in schema else [])]
    needed = [f"`{key}`" for one in choices for key in one["required"]]
    return [f"Needed: {' or '.join(needed)}.", ""] if needed else []


def _examples(content: dict[str, Any]) -> Iterator[str]:
    """What an answer looks like, in each form that there is."""
    for kind, one in content.items():
        examples = one.get("examples") or ({"": {"value": one["example"]}} if "example" in one else {})
        yield from _shown("The answer", examples)
        if not examples and "description" in one.get("schema", {}):
            yield from (f"`{kind}`: {one['schema']['description']}", "")


def _shown(what: str, examples: dict[str, Any]) -> Iterator[str]:
    for name, example in examples.items():
        yield from (f"{what}, {name}:" if name else f"{what}:", "")
        text = re.sub(r"\[\s+([-\d.,\s]+?)\s+\]", _in_one_line, json.dumps(example["value"], indent=1))
        yield from (f"    {line}" for line in text.splitlines())
        yield ""


def _in_one_line(numbers: re.Match[str]) -> str:
    return f"[{' '.join(numbers[1].split())}]"
