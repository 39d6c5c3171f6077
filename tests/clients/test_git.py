"""git over HTTPS: fetching is a read, pushing waits for a person.

A refusal reaches git in its own protocol, because of anything else it prints the status and throws away the words.
"""

import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gate import WRIT, Gate
from origin import GIT, Origin

SECONDS = 60


class Repository:
    """A repository on the origin, and a clone of it, made through the gate, with one commit to push."""

    def __init__(self, gate: Gate, bare: Path, path: str, clone: Path) -> None:
        identity = {f"GIT_{who}_{what}": "a@b.example" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        self.env = gate.env | identity | {"GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0"}
        self.url = f"https://{GIT}{path}"
        self.push_path = f"{path}/git-receive-pack"
        self.clone = clone
        self._bare = bare
        self.git("init", "--quiet", "--bare", "--initial-branch=main", str(bare))
        for setting in ("http.receivepack", "core.logAllRefUpdates"):
            self._on_origin("config", setting, "true")
        seed = clone.with_name("seed")
        self.git("init", "--quiet", "--initial-branch=main", str(seed))
        self.git("-C", str(seed), "commit", "--quiet", "--allow-empty", "--message=first")
        self.git("-C", str(seed), "push", "--quiet", str(bare), "main")
        self.git("clone", "--quiet", self.url, str(clone))
        self.git("-C", str(clone), "commit", "--quiet", "--allow-empty", "--message=second")
        self.commit = self.git("-C", str(clone), "rev-parse", "HEAD").stdout.strip()

    def git(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["git", *arguments]
        return subprocess.run(
            command, env=self.env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS, check=True
        )

    def push(self, *under: str) -> subprocess.Popen[str]:
        command = [*under, "git", "-C", str(self.clone), "push", "origin", "main"]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=self.env, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True)

    def tip(self) -> str:
        return self._on_origin("rev-parse", "main")

    def moves(self) -> int:
        """How often the branch was moved since it was made."""
        return len(self._on_origin("reflog", "main").splitlines()) - 1

    def _on_origin(self, *arguments: str) -> str:
        return self.git("-C", str(self._bare), *arguments).stdout.strip()


@pytest.fixture
def repository(request: pytest.FixtureRequest, gate: Gate, origin: Origin, own: str, tmp_path: Path) -> Repository:
    """In the folder the test names: `waits` keeps a push open, `later` does not, `locked` has no destination for it."""
    path = f"/{request.param}/{own}.git"
    return Repository(gate, origin.repositories / path.removeprefix("/"), path, tmp_path / "clone")


in_folder = pytest.mark.parametrize


@in_folder("repository", ["waits"], indirect=True)
def test_a_fetch_is_allowed_and_its_407_keeps_the_connection(repository: Repository) -> None:
    repository.env["GIT_TRACE_CURL"] = "1"
    fetch = repository.git("ls-remote", repository.url, "main")
    assert fetch.stdout.split() == [repository.tip(), "refs/heads/main"]
    assert fetch.stderr.count("407 Proxy Authentication Required") == 1
    assert set(re.findall(r"Connection #(\d+)", fetch.stderr)) == {"0"}


@in_folder("repository", ["waits"], indirect=True)
def test_a_push_waits_and_goes_out_once(repository: Repository, gate: Gate, origin: Origin) -> None:
    push = repository.push()
    intent = next(waiting(gate, repository, push))
    assert (repository.moves(), origin.hits(repository.push_path)) == (0, [])
    gate.approve(intent)
    _, errors = push.communicate(timeout=SECONDS)
    assert (push.returncode, "main -> main" in errors) == (0, True)
    assert (repository.tip(), repository.moves()) == (repository.commit, 1)
    assert len(origin.hits(repository.push_path)) == 1


@in_folder("repository", ["waits"], indirect=True)
def test_a_push_under_writ_run_needs_no_variables(repository: Repository, gate: Gate, origin: Origin) -> None:
    own = {name: value for name, value in repository.env.items() if name.startswith("GIT_") and name != "GIT_SSL_CAINFO"}
    repository.env = gate.operator | own
    push = repository.push(str(WRIT), "run", "--isolation", "required", "--")
    gate.approve(next(waiting(gate, repository, push)))
    _, errors = push.communicate(timeout=SECONDS)
    assert (push.returncode, "main -> main" in errors) == (0, True), errors
    assert (repository.tip(), repository.moves()) == (repository.commit, 1)


@in_folder("repository", ["waits"], indirect=True)
def test_a_push_over_one_mebibyte_is_probed_first_and_approved_once(
    repository: Repository, gate: Gate, origin: Origin
) -> None:
    """git sends an empty push to see whether it may, then the pack in chunks."""
    (repository.clone / "large").write_bytes(b"\0\1\2\3" * (1 << 20))
    repository.git("-C", str(repository.clone), "add", "large")
    repository.git("-C", str(repository.clone), "-c", "core.compression=0", "commit", "--quiet", "--message=third")
    repository.env |= {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "core.compression", "GIT_CONFIG_VALUE_0": "0"}
    push = repository.push()
    intents = []
    for intent in waiting(gate, repository, push):
        intents.append(intent)
        gate.approve(intent)
    _, errors = push.communicate(timeout=SECONDS)
    assert (push.returncode, "main -> main" in errors) == (0, True)
    assert (repository.moves(), len(intents)) == (1, 1)
    probe, pack = origin.hits(repository.push_path)
    assert probe.body == b"0000" and len(pack.body) > 4 << 20


@in_folder("repository", ["waits"], indirect=True)
def test_a_push_that_a_reviewer_denies_fails(repository: Repository, gate: Gate, origin: Origin) -> None:
    push = repository.push()
    gate.writ("deny", next(waiting(gate, repository, push)), "--rationale", "not on a Friday")
    _, errors = push.communicate(timeout=SECONDS)
    told = "fatal: remote error: rejected by a reviewer: intent "
    assert (push.returncode, told in errors, "not on a Friday" in errors) == (1, True, True), errors
    assert (repository.moves(), origin.hits(repository.push_path)) == (0, [])


@in_folder("repository", ["locked"], indirect=True)
def test_a_push_that_policy_denies_fails(repository: Repository, origin: Origin) -> None:
    push = repository.push()
    _, errors = push.communicate(timeout=SECONDS)
    assert (push.returncode, "fatal: remote error: denied by policy: " in errors) == (1, True), errors
    assert (repository.moves(), origin.hits(repository.push_path)) == (0, [])


@in_folder("repository", ["waits"], indirect=True)
def test_a_fetch_that_goes_no_further_says_why(repository: Repository, origin: Origin) -> None:
    """The first look at a repository and what follows it are two requests."""
    (origin.repositories / "held").symlink_to("waits")
    told = {"/": "remote: denied by policy: ", "/held/": "fatal: remote error: waiting for approval: "}
    for folder, words in told.items():
        command = ["git", "ls-remote", repository.url.replace("/waits/", folder)]
        done = subprocess.run(command, env=repository.env, capture_output=True, text=True, timeout=SECONDS)
        assert (done.returncode, words in done.stderr) == (128, True), done.stderr


@in_folder("repository", ["later"], indirect=True)
def test_a_push_that_is_not_waited_for_goes_out_later(repository: Repository, gate: Gate, origin: Origin) -> None:
    push = repository.push()
    _, errors = push.communicate(timeout=SECONDS)
    assert (push.returncode, "fatal: remote error: waiting for approval: " in errors) == (1, True), errors
    assert (repository.moves(), origin.hits(repository.push_path)) == (0, [])
    [intent] = gate.pending(repository.push_path)
    gate.approve(intent["id"])
    gate.settled(intent["id"])
    assert (repository.tip(), repository.moves()) == (repository.commit, 1)
    assert len(origin.hits(repository.push_path)) == 1


def waiting(gate: Gate, repository: Repository, push: subprocess.Popen[str]) -> Iterator[str]:
    """The intents of a push, as they come to wait, until it has ended."""
    seen: set[str] = set()
    deadline = time.monotonic() + SECONDS
    while push.poll() is None and time.monotonic() < deadline:
        fresh = {intent["id"] for intent in gate.pending(repository.push_path)} - seen
        yield from fresh
        seen |= fresh
        time.sleep(0.05)
