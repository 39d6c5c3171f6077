"""WebSockets through the gate, with a real client and a real server."""

import os
import ssl
import time
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from gate import Gate
from socket_server import SOCKET, SocketServer


def open_socket(gate: Gate, path: str, **options: object) -> ClientConnection:
    """A connection through the forward door, as the printed variables say."""
    context = ssl.create_default_context(cafile=gate.env["SSL_CERT_FILE"])
    url = f"wss://{SOCKET}{path}"
    return connect(url, ssl=context, proxy=gate.env["HTTPS_PROXY"], max_size=None, **options)


def ended(gate: Gate, path: str) -> dict:
    """What the ledger says of how it ended, once it does."""
    for _ in range(100):
        if outcome := gate.outcome(path):
            return outcome["data"]
        time.sleep(0.1)
    raise AssertionError(f"no outcome for {path}")


def test_messages_pass_unmodified_and_are_counted(gate: Gate, sockets: SocketServer, own: str) -> None:
    path = f"/allowed/{own}"
    messages: list[str | bytes] = ["", "hello", os.urandom(100_000), "\u00e9" * 1000, b"\0"]
    with open_socket(gate, path, subprotocols=["chat"]) as client:
        for message in messages:
            client.send(message)
            assert client.recv(timeout=30) == message
        assert client.ping().wait(timeout=30)
        client.close(4001, "enough")
    handshake = sockets.handshakes[-1]
    assert handshake["host"] == SOCKET and "sec-websocket-extensions" not in handshake
    assert not any(name.startswith(("proxy-", "writ-")) for name in handshake)
    data = ended(gate, path)
    sent, received = data["websocket"]["sent"], data["websocket"]["received"]
    assert (data["status"], sent["messages"], received["messages"]) == (101, len(messages), len(messages))
    assert (sent["close"], received["close"]) == (4001, 4001)


def test_the_close_code_of_the_server_reaches_the_agent(gate: Gate, sockets: SocketServer, own: str) -> None:
    with open_socket(gate, f"/allowed/{own}") as client:
        client.send("close 4321")
        with pytest.raises(ConnectionClosed):
            client.recv(timeout=30)
        assert client.close_code == 4321
    assert ended(gate, f"/allowed/{own}")["websocket"]["received"]["close"] == 4321


def test_a_message_over_the_limit_ends_it(gate: Gate, sockets: SocketServer, own: str) -> None:
    with open_socket(gate, f"/allowed/{own}") as client:
        client.send(f"send {17 << 20}")
        with pytest.raises(ConnectionClosed):
            client.recv(timeout=30)
        assert client.close_code == 1009
    assert ended(gate, f"/allowed/{own}")["ended"] == "message_too_large"


def test_a_suspended_agent_loses_its_connection(gate: Gate, sockets: SocketServer, own: str) -> None:
    with open_socket(gate, f"/allowed/{own}") as client:
        gate.writ("agents", "suspend", "default")
        try:
            with pytest.raises(ConnectionClosed):
                client.recv(timeout=30)
        finally:
            gate.writ("agents", "resume", "default")
        assert client.close_code == 1008
    assert ended(gate, f"/allowed/{own}")["ended"] == "stopped"


@pytest.mark.parametrize(("path", "status"), [("/held/x", 403), ("/plain/x", 403), ("/denied/x", 403)])
def test_what_is_not_allowed_at_once_is_refused(path: str, status: int, gate: Gate, sockets: SocketServer) -> None:
    before = len(sockets.handshakes)
    with pytest.raises(InvalidStatus) as refused:
        open_socket(gate, path)
    response = refused.value.response
    assert response.status_code == status
    assert response.headers["Writ-Decision"] == "deny"
    assert len(sockets.handshakes) == before


def test_24000_messages_none_lost_in_little_memory(gate: Gate, sockets: SocketServer, own: str) -> None:
    rounds, count = 24, 1_000
    with open_socket(gate, f"/allowed/{own}") as client:
        client.send("warm")
        assert client.recv(timeout=30) == "warm"
        before = gate.memory("VmRSS")
        for number in range(rounds):
            messages = [f"{number}.{each}" for each in range(count)]
            for message in messages:
                client.send(message)
            assert [client.recv(timeout=60) for _ in messages] == messages
        assert gate.memory("VmRSS") - before < 16 << 20
    data = ended(gate, f"/allowed/{own}")["websocket"]
    assert (data["sent"]["messages"], data["received"]["messages"]) == (rounds * count + 1, rounds * count + 1)


def test_by_base_url_only(gate: Gate, sockets: SocketServer, own: str) -> None:
    door = urlsplit(gate.shown("reverse door")).netloc
    url = f"ws://{door}/socket/allowed/{own}"
    with connect(url, proxy=None, additional_headers={"Writ-Agent-Token": gate.token}) as client:
        client.send("hello")
        assert client.recv(timeout=30) == "hello"
    assert "writ-agent-token" not in sockets.handshakes[-1]
