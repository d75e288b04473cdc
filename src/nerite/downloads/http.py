# SPDX-License-Identifier: Apache-2.0
"""One file over HTTP: redirects followed with care, resumed where it broke off.

The headers that KServe passes as `<host>-headers` go to that host only, also after a redirect; from
HTTPS nothing leads back to HTTP.
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit

from nerite.downloads.sources import without_secrets
from nerite.downloads.transfer import Interrupted, Opened
from nerite.errors import InvalidArgument, NeriteError, NotFound, Unavailable

_CHUNK = 1 << 20
_TIMEOUT_SECS = 30.0
_BUSY = (408, 425, 429, 500, 502, 503, 504)


class HttpFile:
    """A file at a URL, to be opened at any position."""

    def __init__(self, uri: str, variables: Mapping[str, str]) -> None:
        parts = urlsplit(uri)
        self._uri = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        self._shown = without_secrets(uri)
        self._login = _login(parts.username, parts.password)
        self._headers = _Headers(variables)
        self._opener = _opener(self._headers, variables)

    def open_at(self, position: int, tag: str) -> Opened:
        """What the server sends from there on; from the beginning if it cannot do otherwise."""
        headers = {**self._login, **self._headers.of(self._uri)}
        request = urllib.request.Request(self._uri, headers=headers)  # noqa: S310 - see _opener
        if position and tag:
            request.add_header("Range", f"bytes={position}-")
            request.add_header("If-Range", tag)
        try:
            answer = self._opener.open(request, timeout=_TIMEOUT_SECS)
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 416 and position:
                    return self.open_at(0, "")
                raise self._refusal(error) from error
        except (OSError, http.client.HTTPException) as why:
            raise Interrupted(f"no connection: {getattr(why, 'reason', why)}") from why
        return self._opened(answer, position)

    def _opened(self, answer: Any, position: int) -> Opened:
        kind = answer.headers.get_content_type()
        if kind == "text/html":
            answer.close()
            raise InvalidArgument(
                f"'{self._shown}' is a page ({kind}), not a model file; is a login needed?"
            )
        if answer.status not in (200, 206):
            answer.close()
            raise Unavailable(f"'{self._shown}' answers {answer.status}; 200 is expected")
        start = position if answer.status == 206 else 0
        if answer.status == 206 and _start_of(answer.headers) != position:
            answer.close()
            raise Interrupted("another part of the file came than was asked for")
        length = answer.headers.get("Content-Length", "")
        size = start + int(length) if length.isdigit() else None
        return Opened(start, size, _tag_of(answer.headers), _chunks(answer))

    def _refusal(self, error: urllib.error.HTTPError) -> NeriteError | Interrupted:
        if error.code in (404, 410):
            return NotFound(f"'{self._shown}' is not there: the server answers {error.code}")
        if error.code in (401, 403):
            host = urlsplit(self._uri).hostname
            return Unavailable(
                f"'{self._shown}' may not be read: the server answers {error.code}; set the "
                f"variable '{host}-headers' to a JSON object of headers"
            )
        if error.code in _BUSY:
            return Interrupted(f"the server answers {error.code}")
        told = f"{error.code} {error.reason}"
        return Unavailable(f"'{self._shown}' cannot be fetched: the server answers {told}")


def _login(user: str | None, password: str | None) -> dict[str, str]:
    """The header for the user and the password of a URL, if it has them."""
    if user is None:
        return {}
    pair = f"{unquote(user)}:{unquote(password or '')}"
    return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


def _chunks(answer: Any) -> Iterator[bytes]:
    with answer:
        while True:
            try:
                chunk = answer.read(_CHUNK)
            except (OSError, http.client.HTTPException) as why:
                raise Interrupted(f"it broke off: {why}") from why
            if not chunk:
                return
            yield chunk


def _tag_of(headers: http.client.HTTPMessage) -> str:
    """What says that a file is still the same; a weak tag does not."""
    tag = headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified", "")


def _start_of(headers: http.client.HTTPMessage) -> int:
    """The position in `Content-Range: bytes 5-9/10`; -1 if it cannot be read."""
    first = headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    return int(first) if first.isdigit() else -1


class _Headers:
    """The headers that each host is to get."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables

    def of(self, uri: str) -> dict[str, str]:
        """Those for the host of a URL.

        Raises:
            InvalidArgument: The variable is no JSON object of texts.
        """
        name = f"{urlsplit(uri).hostname}-headers"
        try:
            given = json.loads(self._variables.get(name, "{}"))
        except ValueError as why:
            raise InvalidArgument(f"variable '{name}' is not JSON: {why}") from why
        if not isinstance(given, dict) or not all(isinstance(v, str) for v in given.values()):
            raise InvalidArgument(f"variable '{name}' must be a JSON object of texts")
        return {"User-Agent": "nerite", **given}


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects without carrying one host's headers to another."""

    def __init__(self, headers: _Headers) -> None:
        self._headers = headers

    def redirect_request(  # noqa: PLR0917 - urllib's signature
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request:
        """The request to the place that was named instead."""
        if req.type == "https" and urlsplit(newurl).scheme != "https":
            old, new = without_secrets(req.full_url), without_secrets(newurl)
            raise InvalidArgument(
                f"'{old}' redirects to '{new}', which is not encrypted; name the other URL if that "
                "is what you want"
            )
        kept = {k: v for k, v in req.headers.items() if k.lower() in ("range", "if-range")}
        sent = {**self._headers.of(newurl), **kept}
        return urllib.request.Request(newurl, headers=sent)  # noqa: S310


def _opener(headers: _Headers, variables: Mapping[str, str]) -> urllib.request.OpenerDirector:
    """Speaks HTTP and HTTPS and nothing else: no redirect leads to a file of this machine."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=_context(variables)),
        _Redirects(headers),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


def _context(variables: Mapping[str, str]) -> ssl.SSLContext:
    context = ssl.create_default_context()
    bundle = ca_bundle(variables)
    if bundle is not None:
        context.load_verify_locations(bundle)
    return context


def ca_bundle(variables: Mapping[str, str]) -> Path | None:
    """The certificates to trust besides those of the system, as KServe passes them.

    Raises:
        NotFound: They are named but not there.
    """
    named = variables.get("AWS_CA_BUNDLE", "")
    if variables.get("CA_BUNDLE_CONFIGMAP_NAME"):
        mount = variables.get("CA_BUNDLE_VOLUME_MOUNT_POINT", "/etc/ssl/custom-certs")
        named = f"{mount}/cabundle.crt"
    if named and not Path(named).is_file():
        raise NotFound(f"there is no certificate bundle at '{named}'")
    return Path(named) if named else None
