"""A JSON schema in words: the type and range of a value, and its default, as cells of a Markdown table."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

Link = Callable[[str], str]  # a reference to another schema, as Markdown
TYPES = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "boolean": "`true` or `false`",
    "null": "`null`",
    "object": "keys and values",
}


def cell(text: str) -> str:
    """Text as a cell of a table: one line, no bar of its own."""
    return " ".join(text.split()).replace("|", "\\|")


def slug(heading: str) -> str:
    """The anchor that a heading gets on the usual sites."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def value_text(value: Any) -> str:
    """A value as one writes it in YAML."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:.6g}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(value_text(one) for one in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {value_text(one)}' for key, one in value.items())}}}"
    return str(value)


def default_text(schema: dict[str, Any], needed: bool) -> str:
    """What a key is where it is left out."""
    if needed:
        return "needed"
    value = schema.get("default", {})
    if isinstance(value, dict) and value:
        name = value.get("name") if "discriminator" in schema else None
        return f"`{{name: {name}}}`" if name else "its defaults"
    return f"`{value_text(value)}`" if value != "" else "empty"


def type_text(schema: dict[str, Any], link: Link) -> str:
    """The type of a value and the range that it must lie in."""
    if "$ref" in schema:
        return link(schema["$ref"])
    for key in ("anyOf", "oneOf"):
        if key in schema:
            words = [type_text(one, link) for one in schema[key]]
            return (", or " if any("," in word for word in words) else " or ").join(words)
    if "const" in schema:
        return f"`{value_text(schema['const'])}`"
    if "enum" in schema:
        return ", ".join(f"`{value_text(one)}`" for one in schema["enum"])
    kind = schema.get("type")
    if kind == "array":
        return _list_text(schema, link)
    if schema.get("contentEncoding") == "base64":
        return "text in base64"
    if schema.get("format") == "binary":
        return "file"
    if "properties" in schema:
        return f"{{{', '.join(f'{key}: {type_text(one, link)}' for key, one in schema['properties'].items())}}}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"names, each with {_with_article(type_text(schema['additionalProperties'], link))}"
    if isinstance(kind, list):
        return " or ".join(TYPES[one] for one in kind)
    return f"{TYPES.get(str(kind), 'any value')}{_range_text(schema)}"


def _with_article(words: str) -> str:
    return f"a {words}" if words.startswith(("number", "whole number", "list")) else words


def _list_text(schema: dict[str, Any], link: Link) -> str:
    if "prefixItems" in schema:
        items = [type_text(one, link) for one in schema["prefixItems"]]
        assert len(set(items)) == 1, "a list of things of several kinds has no words here yet"
        return f"list of {len(items)}: {items[0]}"
    inner, least, most = type_text(schema.get("items", {}), link), schema.get("minItems"), schema.get("maxItems")
    words = {(None, None): "list", (1, None): "list, not empty"}.get((least, most))
    if words is None:
        words = f"list of at most {most}" if least is None else f"list of {least} to {most}"
    return f"{words}: {inner}"


def _range_text(schema: dict[str, Any]) -> str:
    """The range of a number or the form of a text, as what follows its type; nothing where all are taken."""
    if "pattern" in schema:
        return f" like `{schema['pattern']}`"
    if "maxLength" in schema:
        return f" of at most {schema['maxLength']} characters"
    least, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    most, below = schema.get("maximum"), schema.get("exclusiveMaximum")
    if least is not None and most is not None:
        return f", {value_text(least)} to {value_text(most)}"
    limits = (
        ("", least, " or more"),
        ("above ", above, ""),
        ("at most ", most, ""),
        ("below ", "2^63" if below == 2**63 else below, ""),
    )
    words = [f"{before}{value_text(limit)}{after}" for before, limit, after in limits if limit is not None]
    return f", {' and '.join(words)}" if words else ""
