"""What HTTP proxying itself asks for: absolute form, and credentials only after a challenge."""

import os
import subprocess
from urllib.parse import urlsplit

import pytest

from clients import CLIENTS, Client, curl
from gate import Gate
from origin import API, GREETING, PLAIN, Origin


def test_plain_http_in_absolute_form(gate: Gate, origin: Origin, own: str) -> None:
    allowed = curl(gate.env, "POST", f"http://{PLAIN}/allowed/{own}", b"\0\1")
    assert (allowed.status, allowed.body) == (201, GREETING + b"\0\1")
    denied = curl(gate.env, "GET", f"http://{PLAIN}/denied/{own}", b"")
    assert (denied.status, denied.json()["code"]) == (403, "denied")
    held = curl(gate.env, "POST", f"http://{PLAIN}/held/{own}", b"\0\2")
    assert (held.status, held.json()["status"]) == (202, "pending_approval")
    assert len(origin.hits(f"/allowed/{own}")) == 1
    assert origin.hits(f"/denied/{own}") == origin.hits(f"/held/{own}") == []
    gate.approve(held.json()["intentId"])
    status_url = held.json()["statusUrl"]
    assert curl(gate.env, "GET", f"{status_url}?wait=20", b"").json()["status"] == "succeeded"
    assert [hit.body for hit in origin.hits(f"/held/{own}")] == [b"\0\2"]


@pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS.keys())
def test_plain_http_by_every_client(client: Client, gate: Gate, origin: Origin, own: str) -> None:
    """In absolute form, or inside a tunnel as undici and Node's agent have it."""
    body = os.urandom(100_000)
    answer = client(gate.env, "POST", f"http://{PLAIN}/allowed/{own}", body)
    assert (answer.status, answer.body) == (201, GREETING + body)
    assert [hit.body for hit in origin.hits(f"/allowed/{own}")] == [body]


@pytest.mark.parametrize("way", ["absolute", "tunnel", "direct", "own-name"])
def test_a_status_url_works_in_every_way(way: str, gate: Gate, own: str) -> None:
    held = curl(gate.env, "POST", f"http://{PLAIN}/held/{own}", b"").json()
    given = urlsplit(held["statusUrl"])
    assert f"{given.scheme}://{given.netloc}" == gate.shown("forward door")
    token = urlsplit(gate.env["HTTP_PROXY"]).password
    url, options = {
        "absolute": (given.geturl(), []),
        "tunnel": (given.geturl(), ["--proxytunnel"]),
        "direct": (given.geturl(), ["--noproxy", "*", "--oauth2-bearer", token]),
        "own-name": (given._replace(netloc="writ.internal").geturl(), []),
    }[way]
    shown = curl(gate.env, "GET", url, b"", *options)
    assert (shown.status, shown.json().get("intentId")) == (200, held["intentId"])


@pytest.mark.parametrize("url", [f"https://{API}", f"http://{PLAIN}"], ids=["connect", "absolute"])
def test_a_probe_without_credential_keeps_its_connection(url: str, gate: Gate, origin: Origin, own: str) -> None:
    report = ["--write-out", "%{http_code} %{num_connects}", "--output", "/dev/null", "--verbose"]
    command = ["curl", "--silent", "--max-time", "30", "--proxy-anyauth", *report, f"{url}/allowed/{own}"]
    done = subprocess.run(command, env=gate.env, capture_output=True, text=True, timeout=60)
    assert done.stdout == "200 1"
    assert "407 Proxy Authentication Required" in done.stderr
    assert len(origin.hits(f"/allowed/{own}")) == 1


@pytest.mark.parametrize("user", [None, "default:writ_agt_wrong"], ids=["none", "wrong"])
def test_no_or_a_wrong_credential_is_refused(user: str | None, gate: Gate, origin: Origin, own: str) -> None:
    proxy = ["--proxy", gate.shown("forward door")] + (["--proxy-user", user] if user else [])
    env = {name: value for name, value in gate.env.items() if "proxy" not in name.lower()}
    answer = curl(env, "GET", f"http://{PLAIN}/allowed/{own}", b"", *proxy)
    assert (answer.status, answer.headers["proxy-authenticate"]) == (407, 'Basic realm="writ"')
    command = ["curl", "--silent", "--show-error", "--max-time", "30", *proxy, f"https://{API}/allowed/{own}"]
    tunnel = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert tunnel.returncode == 56 and "407" in tunnel.stderr
    assert origin.hits(f"/allowed/{own}") == []
