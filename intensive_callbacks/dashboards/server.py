"""Questions to a W&B server: the API key goes to it alone, and its answer is bounded in size and time."""

from __future__ import annotations

import base64
import ipaddress
import json
import netrc
import os
import threading
import urllib.error
import urllib.request
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from intensive_callbacks.untrusted import parse_json, printable, reason

SECONDS = 9
MAX_ANSWER = 10_000_000
_FORMER = {"api.forge.coreweave.com": "api.wandb.ai"}


class ServerError(ConnectionError):
    """The server could not be asked, or its answer cannot be used; the message gives the reason in one line.

    Attributes:
        status: the HTTP status of a refusal.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class Server:
    """A W&B server and the user's key for it.

    Args:
        address: such as ``https://api.wandb.ai``.
        key: the API key; by default the one that ``wandb login`` has left in the netrc file.

    Raises:
        ServerError: if the address is neither https nor on this machine, or there is no key.
    """

    def __init__(self, address: str, key: str | None = None) -> None:
        _require_safe(address)
        self._address = address.rstrip("/")
        key = key or _saved_key(urlsplit(address).netloc)
        if not key:
            raise ServerError(f"no API key for {printable(self._address, 200)}: run wandb login, or set WANDB_API_KEY")
        self._credentials = base64.b64encode(f"api:{key}".encode()).decode()

    def ask(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        """The data that answers one GraphQL request.

        Raises:
            ServerError: if the server does not answer in time, redirects, refuses, or answers in another form.
        """
        request = urllib.request.Request(  # noqa: S310  # https or this machine
            f"{self._address}/graphql",
            data=json.dumps({"query": query, "variables": variables}).encode(),
            headers={"Content-Type": "application/json", "Authorization": f"Basic {self._credentials}"},
        )
        answer = _parsed(_within_time(request))
        if answer.get("errors"):
            raise ServerError(_first_message(answer["errors"]))
        if not isinstance(answer.get("data"), dict):
            raise ServerError("its answer has no data")
        data: dict[str, Any] = answer["data"]
        return data


def _require_safe(address: str) -> None:
    """Refuse an address to which an API key must not be sent."""
    with suppress(ValueError):
        parts = urlsplit(address)
        host = parts.hostname or ""
        local = host == "localhost" or (host and parts.scheme == "http" and ipaddress.ip_address(host).is_loopback)
        if host and (parts.scheme == "https" or (parts.scheme == "http" and local)):
            return
    shown = printable(address, 200)
    raise ServerError(f"the API key is sent over https only, or to a server on this machine; got the address {shown}")


def _saved_key(host: str) -> str | None:
    """The key in the netrc file, where wandb keeps it."""
    named = os.environ.get("NETRC")
    files = [Path(named).expanduser()] if named else [Path.home() / name for name in (".netrc", "_netrc")]
    for file in files:
        with suppress(OSError, netrc.NetrcParseError):
            saved = netrc.netrc(file)
            found = saved.authenticators(host) or saved.authenticators(_FORMER.get(host, host))
            if found:
                return found[2]
    return None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an error: the API key is for the server that the user named."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _within_time(request: urllib.request.Request) -> bytes:
    """The whole answer. urllib's limit is for each read, so a thread waits for it, and is left behind in time."""
    taken: list[bytes | ServerError] = []
    reader = threading.Thread(target=lambda: taken.append(_exchange(request)), daemon=True)
    reader.start()
    reader.join(SECONDS)
    if not taken:
        raise ServerError(f"it did not answer within {SECONDS} seconds")
    if isinstance(taken[0], ServerError):
        raise taken[0]
    return taken[0]


def _exchange(request: urllib.request.Request) -> bytes | ServerError:
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=SECONDS) as response:
            content: bytes = response.read(MAX_ANSWER + 1)
    except urllib.error.HTTPError as error:
        return ServerError(_refusal(error), error.code)
    except (OSError, HTTPException, ValueError) as error:
        return ServerError(reason(error))
    if len(content) > MAX_ANSWER:
        return ServerError(f"its answer has more than {MAX_ANSWER:,} bytes")
    return content


def _refusal(error: urllib.error.HTTPError) -> str:
    """Why the server refused: in its own words where it has any, else by its status."""
    if 300 <= error.code < 400:
        with suppress(ValueError):
            other = urlsplit(str(error.headers.get("Location"))).netloc
            return printable(f"it redirects to {other or 'another address'}, where the API key must not go", 300)
    with suppress(OSError, HTTPException, ServerError), error:
        answer = _parsed(error.read(100_000))
        if answer.get("errors"):
            return printable(f"HTTP status {error.code}: {_first_message(answer['errors'])}", 300)
    return printable(f"HTTP status {error.code}: {error.reason}", 300)


def _parsed(content: bytes) -> dict[str, Any]:
    """An answer as the JSON object that it must be."""
    try:
        answer = parse_json(content, "its answer")
    except ValueError as error:
        raise ServerError(reason(error)) from None
    if not isinstance(answer, dict):
        raise ServerError(f"its answer is not an object but a {type(answer).__name__}")
    return answer


def _first_message(errors: Any) -> str:
    first = errors[0] if isinstance(errors, list) else errors
    message = first.get("message") if isinstance(first, dict) else first
    return printable(message or "no reason given", 300)
