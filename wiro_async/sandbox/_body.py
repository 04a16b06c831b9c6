"""Requests' bodies: received within limits, and decoded in all the forms that the service takes."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any, TypeAlias
from urllib.parse import parse_qsl

import anyio
import attrs
from python_multipart.exceptions import FormParserError
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.types import Receive

from wiro_async.sandbox._refusal import Refusal, bad_request

__all__ = ["Disconnected", "Fields", "Upload", "read_body"]

_MAX_JSON = 1024 * 1024
_MAX_UPLOAD = 110 * 1024 * 1024

# In order: a string, a comma before a closing bracket, a bare word.
_LOOSE_JSON = re.compile(r'("(?:[^"\\]|\\.)*")|,(?=\s*[}\]])|([^\s"{}\[\],:]+)')


class Disconnected(Exception):
    """The client left before its request was complete."""


@attrs.frozen
class Upload:
    """A file that came with a request."""

    name: str
    contenttype: str
    data: bytes = attrs.field(repr=False)


Fields: TypeAlias = dict[str, Any]
"""Decoded inputs: JSON values, ``Upload`` objects, and lists of both where a name was repeated."""


async def read_body(headers: Mapping[bytes, bytes], receive: Receive, *, timeout: float) -> Fields:
    """Receive and decode a body.

    Args:
        headers: The request's headers.
        receive: The ASGI channel.
        timeout: Seconds for all of it.

    Returns:
        The inputs; an empty body has none.

    Raises:
        Refusal: For a body that is too large (413), too late (408) or unreadable.
        Disconnected: If the client left.
    """
    content_type = headers.get(b"content-type", b"").decode("latin-1")
    kind = content_type.partition(";")[0].strip().lower()
    multipart = kind == "multipart/form-data"
    body = b""
    with anyio.move_on_after(timeout) as scope:
        if multipart and "boundary=" in content_type:
            # A parser that fails leaves the rest unread.
            async with aclosing(_chunks(receive, _MAX_UPLOAD)) as chunks:
                return await _read_multipart(content_type, chunks)
        body = b"".join([chunk async for chunk in _chunks(receive, _MAX_JSON)])
    if scope.cancelled_caught:
        raise Refusal(0, f"Request body was not received within {timeout:g} seconds.", http_status=408)
    if kind == "application/x-www-form-urlencoded":
        return _collect(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
    return _decode_json(body, lenient=multipart)


async def _chunks(receive: Receive, limit: int) -> AsyncGenerator[bytes]:
    received = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        chunk: bytes = message.get("body", b"")
        received += len(chunk)
        if received > limit:
            raise Refusal(0, f"Request body is larger than {limit} bytes.", http_status=413)
        yield chunk
        more = message.get("more_body", False)


async def _read_multipart(content_type: str, chunks: AsyncIterator[bytes]) -> Fields:
    parser = MultiPartParser(Headers({"content-type": content_type}), chunks)  # type: ignore[arg-type]
    parser.spool_max_size = _MAX_UPLOAD  # all in memory, where it is needed
    try:
        form = await parser.parse()
    except (MultiPartException, FormParserError, LookupError, ValueError):
        raise bad_request() from None
    try:
        return _collect([(name, await _item(value)) for name, value in form.multi_items()])
    finally:
        await form.close()


async def _item(value: UploadFile | str) -> Upload | str:
    if isinstance(value, str):
        return value
    return Upload(value.filename or "", value.content_type or "application/octet-stream", await value.read())


def _collect(pairs: list[tuple[str, Any]]) -> Fields:
    fields: Fields = {}
    for name, value in pairs:
        if name not in fields:
            fields[name] = value
        elif isinstance(fields[name], list):
            fields[name].append(value)
        else:
            fields[name] = [fields[name], value]
    return fields


def _decode_json(body: bytes, *, lenient: bool) -> Fields:
    if not body.strip():
        return {}
    try:
        text = body.decode("utf-8")
        try:
            value = json.loads(text, parse_constant=_refuse_constant)
        except ValueError:
            if not lenient:
                raise
            value = json.loads(_LOOSE_JSON.sub(_repair, text), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise bad_request() from None
    if not isinstance(value, dict):
        raise bad_request()
    return value


def _refuse_constant(name: str) -> None:
    """NaN and Infinity are Python's, not JSON's."""
    raise ValueError(name)


def _repair(match: re.Match[str]) -> str:
    """Quote a bare word, drop a trailing comma: what the shell makes of one documented sample."""
    string, word = match.groups()
    if string is not None:
        return str(string)
    if word is None:
        return ""
    try:
        json.loads(word)
    except ValueError:
        return json.dumps(word)
    return str(word)
