"""gRPC over HTTP/2 on both legs, by grpcio, which reads the proxy and its credential from the environment.

The gate takes a request whole before it decides: a client whose stream waits for replies would wait for ever, so
only unary requests are tried.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from clients import HERE
from gate import Gate
from greeter import ABORT, GRPC, Greeter


def test_a_unary_call(gate: Gate, greeter: Greeter, own: str) -> None:
    with call(gate, "/allowed.Greeter/Greet", own) as told:
        assert next(told) == f"hello {own}"
        end = next(told)
    assert end["code"] == "OK"
    assert greeter.calls.count(own.encode()) == 1


def test_each_message_of_a_stream_arrives_before_the_next_is_sent(gate: Gate, greeter: Greeter, own: str) -> None:
    with call(gate, "/allowed.Greeter/Stream", own) as told:
        for number in range(5):
            greeter.give(own.encode(), b"%d" % number)
            assert next(told) == str(number)
        greeter.give(own.encode(), None)
        assert next(told)["code"] == "OK"


def test_an_error_status_and_its_trailers_arrive_after_messages(gate: Gate, greeter: Greeter, own: str) -> None:
    with call(gate, "/allowed.Greeter/Stream", own) as told:
        greeter.give(own.encode(), b"first")
        assert next(told) == "first"
        greeter.give(own.encode(), ABORT)
        assert next(told) == {
            "code": "FAILED_PRECONDITION",
            "details": "too cold",
            "trailers": {"temperature": "-40"},
        }


def test_a_denied_call_is_told_so_and_does_not_arrive(gate: Gate, greeter: Greeter, own: str) -> None:
    with call(gate, "/denied.Greeter/Greet", own) as told:
        assert next(told)["code"] == "PERMISSION_DENIED"
    assert own.encode() not in greeter.calls


def test_a_held_call_fails_and_arrives_once_it_is_approved(gate: Gate, greeter: Greeter, own: str) -> None:
    """No status of gRPC says "not yet": the client takes the answer for an error of the proxy."""
    with call(gate, "/held.Greeter/Greet", own) as told:
        assert next(told)["code"] == "UNKNOWN"
    assert own.encode() not in greeter.calls
    [intent] = gate.pending("/held.Greeter/Greet")
    gate.approve(intent["id"])
    gate.settled(intent["id"])
    assert greeter.calls.count(own.encode()) == 1


@contextmanager
def call(gate: Gate, method: str, message: str) -> Iterator[Iterator[Any]]:
    """What a client of its own is told, message by message."""
    env = gate.env | {"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": gate.env["SSL_CERT_FILE"]}
    command = [sys.executable, str(HERE / "call.py"), f"{GRPC}:443", method, message]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE) as client:
        assert client.stdout is not None
        yield map(json.loads, client.stdout)
    assert client.returncode == 0
