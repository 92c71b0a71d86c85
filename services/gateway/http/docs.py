"""What can be called, for programs (/openapi.json) and for readers (/docs).

The page is made from the document alone, loads nothing from elsewhere and runs no script. An
error's `type` leads to the reason's entry in it.
"""

import base64
import functools
import hashlib
import html
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;
padding:0 1rem;color:#1b2733}
h1,h2{line-height:1.2}h2{margin-top:2.5rem;border-bottom:1px solid #cdd6df}
h3{margin:1.8rem 0 .3rem;font-size:1rem}code{font-family:ui-monospace,monospace;font-size:.9em}
.verb{display:inline-block;min-width:3.2rem;font-weight:700;color:#0b6b4f}
.note{color:#52616f;font-size:.9rem}table{border-collapse:collapse;width:100%}
td,th{text-align:left;vertical-align:top;padding:.25rem .6rem .25rem 0;
border-bottom:1px solid #e5eaef}
td:first-child{white-space:nowrap}a{color:#0a58a8}:target{background:#fff5cc}
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY = f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; frame-ancestors 'none'"


async def openapi(request: Request) -> Response:
    """Serve the OpenAPI document."""
    return Response(_document(), media_type="application/json")


async def page(request: Request) -> Response:
    """Serve the page."""
    return HTMLResponse(_page(), headers={"content-security-policy": _POLICY})


@functools.cache
def _document() -> bytes:
    return files(__package__).joinpath("openapi.json").read_bytes()


@functools.cache
def _page() -> str:
    return "".join(render(orjson.loads(_document())))


def render(document: dict[str, Any]) -> Iterator[str]:
    """Yield the page of an OpenAPI document."""
    info = document["info"]
    yield f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{_text(info["title"])}'
    yield '</title><meta name="viewport" content="width=device-width">'
    yield f"<style>{_STYLE}</style><h1>{_text(info['title'])} {_text(info['version'])}</h1>"
    yield f"{_paragraphs(info['description'])}"
    yield '<p>The same as <a href="/openapi.json">OpenAPI 3.1</a>.'
    for tag in document["tags"]:
        yield f"<h2>{_text(tag['name'])}</h2>{_paragraphs(tag.get('description', ''))}"
        for path, item in document["paths"].items():
            for verb, operation in item.items():
                if tag["name"] in operation["tags"]:
                    yield from _operation(verb, path, operation)
    yield "<h2>Messages</h2>"
    for name, schema in document["components"]["schemas"].items():
        yield from _schema(name, schema)
    yield "<h2>Reasons of errors</h2><table>"
    for reason, meaning in document["x-error-reasons"].items():
        yield f'<tr id="{_text(reason)}"><td><code>{_text(reason)}</code><td>{_text(meaning)}'
    yield "</table></html>"


def _operation(verb: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f'<h3 id="{_text(operation["operationId"])}"><span class="verb">{verb.upper()}</span> '
    yield f"<code>{_text(path)}</code></h3>{_paragraphs(operation.get('description', ''))}"
    roles = ", ".join(operation["x-puhui-roles"])
    yield f'<p class="note">For {_text(roles)}. gRPC: <code>{_text(operation["x-grpc-method"])}'
    yield "</code></p>"
    if operation.get("parameters"):
        yield "<table>"
        for parameter in operation["parameters"]:
            if "$ref" in parameter:
                continue  # the introduction tells of the headers
            yield f"<tr><td><code>{_text(parameter['name'])}</code><td>{_type(parameter['schema'])}"
            yield f"<td>{_text(parameter.get('description', ''))}"
        yield "</table>"
    for title, content in (
        ("Body", operation.get("requestBody", {}).get("content", {})),
        ("Answer", operation["responses"]["200"]["content"]),
    ):
        for kind, body in content.items():
            yield f'<p class="note">{title}, {_text(kind)}: '
            schema = body.get("x-event-schema", body["schema"])
            yield "</p>" if "properties" in schema else f"{_type(schema)}</p>"
            yield from _properties(schema)


def _schema(name: str, schema: dict[str, Any]) -> Iterator[str]:
    yield f'<h3 id="{_text(name)}"><code>{_text(name)}</code></h3>'
    yield _paragraphs(schema.get("description", ""))
    if "enum" in schema:
        yield f"<p>One of {', '.join(f'<code>{_text(value)}</code>' for value in schema['enum'])}"
    yield from _properties(schema)


def _properties(schema: dict[str, Any]) -> Iterator[str]:
    if "properties" not in schema:
        return
    required = schema.get("required", ())
    yield "<table>"
    for name, inner in schema["properties"].items():
        mark = " *" if name in required else ""
        yield f"<tr><td><code>{_text(name)}</code>{mark}<td>{_type(inner)}"
        yield f"<td>{_text(inner.get('description', ''))}"
    yield "</table>"


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f'<a href="#{_text(name)}">{_text(name)}</a>'
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    kind = schema.get("format") or schema.get("type", "anything")
    return _text(kind if isinstance(kind, str) else " or ".join(kind))


def _paragraphs(text: str) -> str:
    return "".join(f"<p>{_text(part)}</p>" for part in text.split("\n\n") if part)


def _text(text: str) -> str:
    return html.escape(text)
