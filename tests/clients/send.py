"""Sends one request with a Python library that knows the gate from its environment only.

    send.py LIBRARY METHOD URL < body

Prints a JSON object: status, headers, the body in base64, and the HTTP version as `1.1` or `2`.
"""

import asyncio
import base64
import functools
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

import aiohttp
import httpx
import requests

HEADERS = {"Content-Type": "application/octet-stream"}
SECONDS = 30

Told = tuple[int, Mapping[str, str], bytes, Any]
"""Status, headers, body and version, each as its library gives it."""


def main(library: str, method: str, url: str) -> None:
    status, headers, body, version = SENDERS[library](method, url, sys.stdin.buffer.read() or None)
    lower = {name.lower(): value for name, value in headers.items()}
    content = base64.b64encode(body).decode()
    print(json.dumps({"status": status, "headers": lower, "body": content, "version": VERSIONS[version]}))


def send_aiohttp(method: str, url: str, body: bytes | None) -> Told:
    async def send() -> Told:
        timeout = aiohttp.ClientTimeout(SECONDS)
        async with (
            aiohttp.ClientSession(trust_env=True, timeout=timeout) as client,
            client.request(method, url, data=body, headers=HEADERS) as response,
        ):
            return response.status, response.headers, await response.read(), response.version

    return asyncio.run(send())


def send_httpx(http2: bool, method: str, url: str, body: bytes | None) -> Told:
    with httpx.Client(timeout=SECONDS, http2=http2) as client:
        response = client.request(method, url, content=body, headers=HEADERS)
    return response.status_code, response.headers, response.content, response.http_version


def send_requests(method: str, url: str, body: bytes | None) -> Told:
    response = requests.request(method, url, data=body, headers=HEADERS, timeout=SECONDS)
    return response.status_code, response.headers, response.content, response.raw.version


def send_urllib(method: str, url: str, body: bytes | None) -> Told:
    request = urllib.request.Request(url, data=body, method=method, headers=HEADERS)
    try:
        response = urllib.request.urlopen(request, timeout=SECONDS)
    except urllib.error.HTTPError as error:
        response = error
    with response:
        return response.status, response.headers, response.read(), response.version


SENDERS = {
    "aiohttp": send_aiohttp,
    "httpx": functools.partial(send_httpx, False),
    "httpx-http2": functools.partial(send_httpx, True),
    "requests": send_requests,
    "urllib": send_urllib,
}

VERSIONS = {11: "1.1", aiohttp.HttpVersion11: "1.1", "HTTP/1.1": "1.1", "HTTP/2": "2"}

if __name__ == "__main__":
    main(*sys.argv[1:])
