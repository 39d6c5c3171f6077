"""gRPC over HTTP/2 on both legs, by grpcio, which reads the proxy and its credential from the environment.

The gate takes a request whole before it decides: a client whose stream waits for replies waits until it is told so.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from certificates import Certificates
from clients import HERE, curl
from gate import Gate
from greeter import ABORT, GRPC, Greeter
from origin import Origin


def test_a_unary_call(gate: Gate, greeter: Greeter, own: str) -> None:
    with call(gate, "/allowed.Greeter/Greet", own) as told:
        assert next(told) == f"hello {own}"
        end = next(told)
    assert end["code"] == "OK"
    assert greeter.calls.count(own.encode()) == 1


def test_a_stream_of_requests_with_one_reply(gate: Gate, greeter: Greeter, own: str) -> None:
    with call(gate, "/allowed.Greeter/Collect", own, "one", "two") as told:
        assert next(told) == f"{own} one two"
        assert next(told)["code"] == "OK"
    assert greeter.calls.count(f"{own} one two".encode()) == 1


def test_a_stream_of_requests_and_then_a_stream_of_replies(gate: Gate, own: str) -> None:
    with call(gate, "/allowed.Greeter/Chat", own, "one", "two") as told:
        assert [next(told) for _ in range(3)] == [f"hello {own}", "hello one", "hello two"]
        assert next(told)["code"] == "OK"


def test_a_conversation_is_told_that_its_request_never_ends(
    tmp_path: Path, certificates: Certificates, origin: Origin, greeter: Greeter, own: str
) -> None:
    impatient = Gate(tmp_path, certificates.roots, origin.addresses | greeter.addresses, body_seconds=1)
    with call(impatient, "/allowed.Greeter/Chat", own, "...") as told:
        end = next(told)
    assert end["code"] == "DEADLINE_EXCEEDED"
    assert end["details"] == "request timeout: the request body did not arrive in time; send the whole request at once"
    assert own.encode() not in greeter.calls
    assert impatient.stop() == 0


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
        end = next(told)
    assert end["code"] == "PERMISSION_DENIED"
    assert end["details"].startswith("denied by policy: ")
    assert (end["trailers"]["writ-decision"], "writ-correlation-id" in end["trailers"]) == ("deny", True)
    assert own.encode() not in greeter.calls


def test_a_held_call_is_told_where_it_waits_and_arrives_once_it_is_approved(
    gate: Gate, greeter: Greeter, own: str
) -> None:
    with call(gate, "/held.Greeter/Greet", own) as told:
        end = next(told)
    assert end["code"] == "FAILED_PRECONDITION"
    assert end["details"].startswith("waiting for approval: ") and end["trailers"]["location"] in end["details"]
    assert own.encode() not in greeter.calls
    [intent] = gate.pending("/held.Greeter/Greet")
    assert intent["id"] == end["trailers"]["writ-intent-id"]
    gate.approve(intent["id"])
    gate.settled(intent["id"])
    assert greeter.calls.count(own.encode()) == 1
    reply = curl(gate.env, "GET", f"http://writ.internal/v1/intents/{intent['id']}/response", b"")
    message = b"hello " + own.encode()
    assert reply.body == b"\0" + len(message).to_bytes(4) + message
    assert (reply.headers["writ-trailer-grpc-status"], reply.headers.get("grpc-status")) == ("0", None)


@contextmanager
def call(gate: Gate, method: str, *messages: str) -> Iterator[Iterator[Any]]:
    """What a client of its own is told, message by message, when it sends these."""
    env = gate.env | {"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": gate.env["SSL_CERT_FILE"]}
    command = [sys.executable, str(HERE / "call.py"), f"{GRPC}:443", method, *messages]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE) as client:
        assert client.stdout is not None
        yield map(json.loads, client.stdout)
    assert client.returncode == 0
