"""The firewall recipes in real network namespaces: what an agent reaches, what the gate reaches."""

import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

FIREWALL = Path(__file__).parents[2] / "deploy" / "firewall"
GATE, AGENT = 64321, 10001
OUTSIDE = "10.99.7.2"

# Connects as another user and says how that went: the gate's user keeps no right to change anything either.
CONNECT = """
import encodings.idna, os, socket, sys
user, group, host, port = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
os.setgroups([]); os.setgid(group); os.setuid(user)
try:
    socket.create_connection((host, port), timeout=3).close()
    print("connected")
except OSError as error:
    print("refused")
"""
LISTEN = """
import socket, sys, time
sockets = [socket.create_server((host, int(port))) for host, port in (each.rsplit(":", 1) for each in sys.argv[1:])]
print("listening", flush=True)
time.sleep(600)
"""


def needs(*programs: str) -> None:
    if os.geteuid() != 0 or not all(shutil.which(program) for program in programs):
        pytest.skip(f"takes root and {', '.join(programs)}")


def run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, f"{words}: {done.stderr}"
    return done.stdout


class World:
    """A machine with agents and a gate, and one outside: two namespaces with a wire between them."""

    def __init__(self) -> None:
        mark = uuid.uuid4().hex[:6]
        self.inside, self.outside = f"writ-i{mark}", f"writ-o{mark}"
        self.listeners: list[subprocess.Popen[str]] = []
        for name in (self.inside, self.outside):
            run("ip", "netns", "add", name)
        ends = ((self.inside, f"wi{mark}", "10.99.7.1/24"), (self.outside, f"wo{mark}", f"{OUTSIDE}/24"))
        peer = ("peer", "name", ends[1][1], "netns", self.outside)
        run("ip", "link", "add", ends[0][1], "netns", self.inside, "type", "veth", *peer)
        for name, wire, address in ends:
            self.within(name, "ip", "address", "add", address, "dev", wire)
            self.within(name, "ip", "link", "set", wire, "up")
            self.within(name, "ip", "link", "set", "lo", "up")
        self.listen(self.outside, f"{OUTSIDE}:443")
        self.listen(self.inside, "127.0.0.1:4001", "127.0.0.1:8787", "127.0.0.1:8080")

    def within(self, name: str, *words: str) -> str:
        return run("ip", "netns", "exec", name, *words)

    def listen(self, name: str, *addresses: str) -> None:
        words = ["ip", "netns", "exec", name, "python3", "-c", LISTEN, *addresses]
        listener = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        self.listeners.append(listener)
        assert listener.stdout is not None and listener.stdout.readline() == "listening\n"

    def connect(self, user: int, host: str, port: int, group: int | None = None) -> str:
        words = (str(user), str(group or user), host, str(port))
        return self.within(self.inside, "python3", "-c", CONNECT, *words).strip()

    def close(self) -> None:
        for listener in self.listeners:
            listener.kill()
            listener.wait()
        for name in (self.inside, self.outside):
            run("ip", "netns", "delete", name)


@pytest.fixture
def world() -> Iterator[World]:
    needs("ip")
    made = World()
    try:
        assert made.connect(AGENT, OUTSIDE, 443) == "connected", "without a fence"
        yield made
    finally:
        made.close()


def test_the_fence_of_a_pod_lets_only_the_gate_out(world: World) -> None:
    needs("nft")
    for _ in range(2):
        world.within(world.inside, "nft", "--file", str(FIREWALL / "pod.nft"))
    assert world.connect(GATE, OUTSIDE, 443) == "connected"
    assert world.connect(AGENT, "127.0.0.1", 4001) == "connected"
    assert world.connect(AGENT, "127.0.0.1", 8080) == "connected", "what the pod itself serves"
    for user in (AGENT, 0):
        begun = time.monotonic()
        assert world.connect(user, OUTSIDE, 443) == "refused", user
        assert time.monotonic() - begun < 2, "it is told at once"
        assert world.connect(user, "127.0.0.1", 8787) == "refused", "the operator door is not for agents"
    assert world.connect(GATE, "127.0.0.1", 8787) == "connected"


@pytest.mark.parametrize("recipe", ["nft", "iptables"])
def test_agents_of_a_machine_reach_the_forward_door_only(world: World, recipe: str) -> None:
    agents = 64400
    if recipe == "nft":
        needs("nft")
        world.within(world.inside, "nft", "--file", str(FIREWALL / "host.nft"))
    else:
        needs("iptables-restore", "ip6tables-restore")
        world.within(world.inside, "iptables-restore", "--noflush", str(FIREWALL / "host.iptables"))
        world.within(world.inside, "ip6tables-restore", "--noflush", str(FIREWALL / "host.ip6tables"))
    assert world.connect(AGENT, "127.0.0.1", 4001, agents) == "connected"
    for host, port in ((OUTSIDE, 443), ("127.0.0.1", 8787), ("127.0.0.1", 8080), ("::1", 4001)):
        assert world.connect(AGENT, host, port, agents) == "refused", (host, port)
    assert world.connect(GATE, OUTSIDE, 443) == "connected", "others go on"
