"""Waiting for approvals where the code already is: transports for httpx and requests.

An agent that goes through Writ may get `202 pending_approval` in place of its API's answer. With these transports a
held request simply takes longer: they wait until a person has decided and return what the API answered. What is refused
arrives as an exception that says why and what would help. Nothing here can approve anything.

    client = httpx.Client(transport=writ_client.Transport())
    session = requests.Session(); session.mount("https://", writ_client.Adapter())

The proxy's URL is taken from HTTPS_PROXY (or HTTP_PROXY), the certificate authority from SSL_CERT_FILE, as `writ up`
prints them. One file without dependencies besides the client that is used.
"""

from __future__ import annotations

import json
import os
import ssl
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any

try:
    import httpx
except ImportError:
    httpx = None  # type: ignore[assignment]
try:
    import requests
    from requests.adapters import HTTPAdapter
except ImportError:
    requests = None  # type: ignore[assignment]
    HTTPAdapter = object  # type: ignore[assignment,misc]

DAY = 86_400.0


class WritError(Exception):
    """Writ answered instead of the API. `problem` is its problem document (RFC 9457)."""

    def __init__(self, problem: Mapping[str, Any]) -> None:
        self.problem = dict(problem)
        self.code: str = str(problem.get("code", ""))
        self.remedy: str = str(problem.get("remedy", ""))
        self.intent: str | None = problem.get("intentId")
        self.retryable: bool = bool(problem.get("retryable", False))
        super().__init__(" ".join(filter(None, [f"{self.code}: {problem.get('detail', '')}", self.remedy])))


class Denied(WritError):
    """Policy does not allow it."""


class Rejected(WritError):
    """A reviewer said no."""


class Expired(WritError):
    """Nobody decided in time."""


class Cancelled(WritError):
    """The agent withdrew it."""


class Undecided(WritError):
    """Still waiting when this client's patience ended. The intent lives on; `intent` is its id."""


class OutcomeUnknown(WritError):
    """It was sent, and what became of it is not known. Never repeated by Writ, and not to be repeated blindly."""


class Unavailable(WritError):
    """Nothing was sent: the gate, its vault or the API could not do its part."""


@dataclass
class Answer:
    """What the logic below needs of a response."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


def waiting(first: Answer, patience: float) -> Generator[str, Answer, None]:
    """Yields the URLs to ask next and takes their answers; ends when the last answer is the API's own.

    Raises a `WritError` when there will be no such answer.
    """
    deadline = time.monotonic() + patience
    answer = first
    while (decision := answer.headers.get("writ-decision")) not in (None, "allow"):
        if decision != "hold":
            raise refusal(answer)
        intent = answer.headers["writ-intent-id"]
        left = deadline - time.monotonic()
        if left <= 0:
            raise Undecided({"code": "undecided", "detail": f"intent {intent} still waits", "intentId": intent})
        page = f"http://writ.internal/v1/intents/{intent}"
        yield f"{page}?wait={max(1, int(min(left, 60)))}"
        answer = yield f"{page}/response"


def refusal(answer: Answer) -> WritError:
    """The exception for an answer of the gate."""
    try:
        problem = json.loads(answer.body)
    except ValueError:
        problem = {"code": f"http_{answer.status}", "detail": answer.body.decode(errors="replace")}
    code = str(problem.get("code", ""))
    kinds: dict[str, type[WritError]] = {
        "rejected": Rejected,
        "expired": Expired,
        "cancelled": Cancelled,
        "outcome_unknown": OutcomeUnknown,
    }
    if code in kinds:
        return kinds[code](problem)
    return Unavailable(problem) if answer.status >= 500 else Denied(problem)


def proxy_url() -> str:
    """The proxy that the environment names."""
    names = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"]
    found = next((os.environ[name] for name in names if os.environ.get(name)), None)
    if found is None:
        raise RuntimeError("no proxy is set; paste the `export` lines that `writ up` prints, or pass `proxy=`")
    return found


if httpx is not None:

    def _context() -> ssl.SSLContext:
        return ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE"))

    class Transport(httpx.BaseTransport):
        """For `httpx.Client(transport=…)`. `patience`: seconds to wait for a person."""

        def __init__(self, proxy: str | None = None, patience: float = DAY, **options: Any) -> None:
            self._patience = patience
            options.setdefault("verify", _context())
            self._inner = httpx.HTTPTransport(proxy=proxy or proxy_url(), **options)

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            response = self._inner.handle_request(request)
            if response.headers.get("writ-decision") in (None, "allow"):
                return response
            response.read()
            steps = waiting(_seen(response), self._patience)
            try:
                url = next(steps)
                while True:
                    response = self._inner.handle_request(_look(url, request))
                    response.read()
                    url = steps.send(_seen(response))
            except StopIteration:
                return response

        def close(self) -> None:
            self._inner.close()

    class AsyncTransport(httpx.AsyncBaseTransport):
        """For `httpx.AsyncClient(transport=…)`. `patience`: seconds to wait for a person."""

        def __init__(self, proxy: str | None = None, patience: float = DAY, **options: Any) -> None:
            self._patience = patience
            options.setdefault("verify", _context())
            self._inner = httpx.AsyncHTTPTransport(proxy=proxy or proxy_url(), **options)

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            response = await self._inner.handle_async_request(request)
            if response.headers.get("writ-decision") in (None, "allow"):
                return response
            await response.aread()
            steps = waiting(_seen(response), self._patience)
            try:
                url = next(steps)
                while True:
                    response = await self._inner.handle_async_request(_look(url, request))
                    await response.aread()
                    url = steps.send(_seen(response))
            except StopIteration:
                return response

        async def aclose(self) -> None:
            await self._inner.aclose()

    def _look(url: str, request: httpx.Request) -> httpx.Request:
        # A look may take as long as the gate holds the connection, whatever the request's own read timeout is.
        timeout = {**request.extensions.get("timeout", {}), "read": 90.0}
        return httpx.Request("GET", url, extensions={"timeout": timeout})

    def _seen(response: httpx.Response) -> Answer:
        return Answer(response.status_code, response.headers, response.content)


if requests is not None:

    class Adapter(HTTPAdapter):
        """For `requests.Session.mount(…)`. `patience`: seconds to wait for a person."""

        def __init__(self, patience: float = DAY, **options: Any) -> None:
            self._patience = patience
            super().__init__(**options)

        def send(self, request: Any, stream: bool = False, timeout: Any = None, **options: Any) -> Any:
            response = super().send(request, stream=stream, timeout=timeout, **options)
            if response.headers.get("writ-decision") in (None, "allow"):
                return response
            steps = waiting(self._seen(response), self._patience)
            proxy = next(iter((options.get("proxies") or {}).values()), None) or proxy_url()
            options["proxies"] = {"http": proxy, "https": proxy}
            try:
                url = next(steps)
                while True:
                    look = requests.Request("GET", url).prepare()
                    response = super().send(look, timeout=90, **options)
                    url = steps.send(self._seen(response))
            except StopIteration:
                response.request = request
                return response

        @staticmethod
        def _seen(response: Any) -> Answer:
            return Answer(response.status_code, response.headers, response.content)
