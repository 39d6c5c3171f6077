"""Large bodies: nothing lost, nothing kept in memory that need not be."""

import hashlib
import itertools
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from certificates import Certificates
from clients import curl
from gate import Gate
from greeter import Greeter
from origin import API, API_HTTP2, GREETING, Origin

MIB = 1 << 20
SIZES = [1, 2, 3, 15, 16, 17, 255, 256, 4095, 4096, 16_383, 16_384, 65_535, 65_536, 1_000_000, 1]
SECONDS = 60


@pytest.mark.parametrize("version", ["1.1", "2"], ids=["http1.1", "http2"])
@pytest.mark.parametrize("host", [API, API_HTTP2], ids=["to-http1.1", "to-http2"])
def test_an_upload_of_30_megabytes_arrives_whole(version: str, host: str, gate: Gate, origin: Origin, own: str) -> None:
    path, body = f"/allowed/{own}", os.urandom(30_000_000)
    answer = curl(gate.env, "POST", f"https://{host}{path}", body, f"--http{version}")
    assert (answer.status, sha256(answer.body)) == (201, sha256(GREETING + body))
    [hit] = origin.hits(path)
    assert sha256(hit.body) == sha256(body)


@pytest.mark.parametrize("host", [API, API_HTTP2], ids=["to-http1.1", "to-http2"])
def test_chunks_of_any_size_arrive_whole_in_both_directions(host: str, gate: Gate, origin: Origin, own: str) -> None:
    path, body = f"/allowed/{own}", os.urandom(5_000_000)
    reply = origin.reply(path)
    parts = [body[at : at + size] for at, size in zip(itertools.accumulate(SIZES, initial=0), SIZES)]
    reply.give(*parts)
    reply.end()
    options = ["--http1.1", "--header", "Transfer-Encoding: chunked"]
    answer = curl(gate.env, "POST", f"https://{host}{path}", body, *options)
    assert (answer.status, sha256(answer.body)) == (200, sha256(*parts))
    [hit] = origin.hits(path)
    assert (sha256(hit.body), hit.headers.get("transfer-encoding")) == (sha256(body), None)


def test_pip_downloads_a_wheel_of_100_megabytes(gate: Gate, origin: Origin, own: str, tmp_path: Path) -> None:
    wheel = noise_wheel(tmp_path / "noise-1.0-py3-none-any.whl")
    index = f"/allowed/{own}/noise/"
    page = origin.reply(index, "text/html")
    page.give(f'<!DOCTYPE html><a href="{wheel.name}">{wheel.name}</a>'.encode())
    page.end()
    file = origin.reply(index + wheel.name)
    file.give(wheel.read_bytes())
    file.end()
    options = ["--isolated", "--disable-pip-version-check", "--no-cache-dir", "--no-deps", "--retries=0"]
    found = ["--dest", str(tmp_path / "downloads"), "--index-url", f"https://{API}/allowed/{own}/"]
    command = [sys.executable, "-m", "pip", "download", *options, *found, "noise"]
    done = subprocess.run(command, env=gate.env, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    assert sha256((tmp_path / "downloads" / wheel.name).read_bytes()) == sha256(wheel.read_bytes())
    assert (len(origin.hits(index)), len(origin.hits(index + wheel.name))) == (1, 1)


@pytest.fixture
def fresh_gate(tmp_path: Path, certificates: Certificates, origin: Origin, greeter: Greeter) -> Iterator[Gate]:
    """A gate whose memory no other test has used."""
    started = Gate(tmp_path, certificates.roots, origin.addresses | greeter.addresses)
    yield started
    assert started.stop() == 0


def test_a_download_of_one_gibibyte_streams_in_little_memory(fresh_gate: Gate, origin: Origin, own: str) -> None:
    parts = [os.urandom(MIB)] * 1024
    reply = origin.reply(f"/allowed/{own}")
    reply.give(*parts)
    reply.end()
    idle = fresh_gate.memory("VmRSS")
    script = f"set -o pipefail; curl --silent --fail --max-time {SECONDS} https://{API}/allowed/{own} | sha256sum"
    done = subprocess.run(["bash", "-c", script], env=fresh_gate.env, capture_output=True, text=True, timeout=SECONDS)
    assert (done.returncode, done.stdout.split()[:1]) == (0, [sha256(*parts)]), done.stderr
    assert fresh_gate.memory("VmHWM") - idle < 64 * MIB


def noise_wheel(path: Path) -> Path:
    """A package of random bytes, as much of a wheel as pip looks at."""
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("noise/random", os.urandom(100_000_000))
        wheel.writestr("noise-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: noise\nVersion: 1.0\n")
        wheel.writestr("noise-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    return path


def sha256(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
