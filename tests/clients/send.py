"""Sends one request with a Python library that knows the gate from its environment only.

    send.py LIBRARY METHOD URL < body

Prints a JSON object: status, headers, and the body in base64.
"""

import base64
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping

import httpx
import requests

HEADERS = {"Content-Type": "application/octet-stream"}
SECONDS = 30


def main(library: str, method: str, url: str) -> None:
    status, headers, body = SENDERS[library](method, url, sys.stdin.buffer.read() or None)
    lower = {name.lower(): value for name, value in headers.items()}
    print(json.dumps({"status": status, "headers": lower, "body": base64.b64encode(body).decode()}))


def send_httpx(method: str, url: str, body: bytes | None) -> tuple[int, Mapping[str, str], bytes]:
    with httpx.Client(timeout=SECONDS) as client:
        response = client.request(method, url, content=body, headers=HEADERS)
    return response.status_code, response.headers, response.content


def send_requests(method: str, url: str, body: bytes | None) -> tuple[int, Mapping[str, str], bytes]:
    response = requests.request(method, url, data=body, headers=HEADERS, timeout=SECONDS)
    return response.status_code, response.headers, response.content


def send_urllib(method: str, url: str, body: bytes | None) -> tuple[int, Mapping[str, str], bytes]:
    request = urllib.request.Request(url, data=body, method=method, headers=HEADERS)
    try:
        response = urllib.request.urlopen(request, timeout=SECONDS)
    except urllib.error.HTTPError as error:
        response = error
    with response:
        return response.status, response.headers, response.read()


SENDERS = {"httpx": send_httpx, "requests": send_requests, "urllib": send_urllib}

if __name__ == "__main__":
    main(*sys.argv[1:])
