"""Traces as a real collector receives them: OpenTelemetry's own message types, through oteltest's sink."""

import base64
import json
import logging
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from oteltest.sink import HttpSink
from oteltest.sink.handler import RequestHandler

from certificates import Certificates
from gate import Gate
from origin import API, Origin

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector(RequestHandler):
    """Keeps the spans that come in."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self._came = threading.Condition()

    def handle_trace(self, request: Any, _: Any) -> None:
        with self._came:
            for resource in request.resource_spans:
                names = {each.key: each.value.string_value for each in resource.resource.attributes}
                assert names["service.name"] == "writ"
                self.spans += [span for scope in resource.scope_spans for span in scope.spans]
            self._came.notify_all()

    def handle_metrics(self, request: Any, _: Any) -> None:
        raise AssertionError("not a trace")

    def handle_logs(self, request: Any, _: Any) -> None:
        raise AssertionError("not a trace")

    def of(self, correlation: str, count: int) -> list[Any]:
        """The spans of one request, when so many are there."""
        with self._came:
            assert self._came.wait_for(lambda: len(self._of(correlation)) >= count, timeout=20), self.spans
            return self._of(correlation)

    def _of(self, correlation: str) -> list[Any]:
        roots = [span for span in self.spans if attributes(span).get("writ.correlation_id") == correlation]
        return [span for span in self.spans if roots and span.trace_id == roots[0].trace_id]


def attributes(span: Any) -> dict[str, str]:
    return {each.key: each.value.string_value for each in span.attributes}


def hexadecimal(identifier: bytes) -> str:
    """OTLP writes ids in hexadecimal; the general JSON of protobuf, which the sink reads, takes them for base64."""
    return base64.b64encode(identifier).decode().rstrip("=")


@pytest.fixture(scope="module")
def collector() -> Iterator[tuple[Collector, int]]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    kept = Collector()
    sink = HttpSink(kept, logging.getLogger("sink"), port)
    sink.start()
    yield kept, port
    sink.stop()


@pytest.fixture(scope="module")
def traced(
    tmp_path_factory: pytest.TempPathFactory,
    certificates: Certificates,
    origin: Origin,
    collector: tuple[Collector, int],
) -> Iterator[Gate]:
    variables = {
        "WRIT_TELEMETRY_TRACES": f"http://127.0.0.1:{collector[1]}/v1/traces",
        "WRIT_LOG_FORMAT": "json",
        "WRIT_LOG": "writ=trace",
    }
    folder = tmp_path_factory.mktemp("traced")
    started = Gate(folder, certificates.roots, origin.addresses, variables)
    yield started
    started.stop()


def ask(gate: Gate, method: str, path: str, **headers: str) -> requests.Response:
    proxies = {"https": gate.env["HTTPS_PROXY"]}
    url = f"https://{API}{path}"
    return requests.request(method, url, headers=headers, proxies=proxies, verify=gate.env["SSL_CERT_FILE"], timeout=30)


def test_a_request_and_each_of_its_stages_is_a_span_of_the_callers_trace(
    traced: Gate, collector: tuple[Collector, int], origin: Origin, own: str
) -> None:
    path = f"/allowed/{own}?secret-query=1"
    answer = ask(traced, "GET", path, traceparent=f"00-{TRACE}-{PARENT}-01", tracestate="vendor=1")
    assert answer.status_code == 200
    correlation = answer.headers["writ-correlation-id"]
    spans = collector[0].of(correlation, 5)
    by_name = {span.name: span for span in spans}
    assert sorted(by_name) == ["decide", "read", "record", "request", "upstream"]
    request = by_name.pop("request")
    assert {hexadecimal(span.trace_id) for span in spans} == {TRACE}
    assert hexadecimal(request.parent_span_id) == PARENT
    assert attributes(request) == {
        "writ.correlation_id": correlation,
        "writ.decision": "allow",
        "http.response.status_code": "200",
    }
    for span in by_name.values():
        assert span.parent_span_id == request.span_id
        assert request.start_time_unix_nano <= span.start_time_unix_nano + 1_000_000
        assert span.start_time_unix_nano <= span.end_time_unix_nano <= request.end_time_unix_nano + 1_000_000
    [hit] = origin.hits(path)
    assert hit.headers["traceparent"] == f"00-{TRACE}-{hexadecimal(request.span_id)}-01"
    assert hit.headers["tracestate"] == "vendor=1"
    assert "secret-query" not in repr(spans) and own not in repr(spans)


def test_a_refusal_is_a_span_and_begins_a_trace_of_its_own(
    traced: Gate, collector: tuple[Collector, int], own: str
) -> None:
    answer = ask(traced, "DELETE", f"/allowed/{own}", traceparent="00-nonsense-01")
    assert answer.status_code == 403
    spans = collector[0].of(answer.headers["writ-correlation-id"], 3)
    [request] = [span for span in spans if span.name == "request"]
    assert not request.parent_span_id and hexadecimal(request.trace_id) != TRACE
    assert attributes(request)["writ.decision"] == "deny"


def test_the_log_is_json_with_correlation_ids_and_without_tokens(traced: Gate, tmp_path: Path) -> None:
    refused = requests.get("http://nowhere.invalid/allowed/x", proxies={"http": traced.env["HTTP_PROXY"]}, timeout=30)
    assert refused.status_code == 403
    text = (traced.home.parent / "writ.log").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert lines and all({"timestamp", "level", "target"} <= set(line) for line in lines)
    assert traced.token not in text and "secret-query" not in text


def test_a_collector_that_is_gone_costs_no_request(
    tmp_path: Path, certificates: Certificates, origin: Origin, own: str
) -> None:
    variables = {"WRIT_TELEMETRY_TRACES": "http://127.0.0.1:9/v1/traces"}
    gate = Gate(tmp_path, certificates.roots, origin.addresses, variables)
    assert ask(gate, "GET", f"/allowed/{own}").status_code == 200
    assert gate.stop() == 0
    assert "spans are lost" in (tmp_path / "writ.log").read_text()


def test_without_a_collector_nothing_is_added_to_a_request(gate: Gate, origin: Origin, own: str) -> None:
    assert ask(gate, "GET", f"/allowed/{own}").status_code == 200
    [hit] = origin.hits(f"/allowed/{own}")
    assert "traceparent" not in hit.headers
