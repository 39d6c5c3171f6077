"""The gate's certificates before strict verifiers."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from gate import Gate
from origin import API, GREETING

# Python 3.13 verifies like this by default; it refuses what lacks key identifiers or key usage (RFC 5280).
STRICT = """
import ssl, sys, urllib.request
context = ssl.create_default_context()
context.verify_flags |= ssl.VERIFY_X509_STRICT
opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context))
sys.stdout.buffer.write(opener.open(sys.argv[1], timeout=30).read())
"""


@pytest.mark.parametrize("python", [sys.executable, "python3.13", "python3.14"], ids=["own", "3.13", "3.14"])
def test_python_accepts_them_strictly(python: str, gate: Gate, own: str) -> None:
    if not runs(python):
        pytest.skip(f"{python} is not installed")
    command = [python, "-c", STRICT, f"https://{API}/allowed/{own}"]
    done = subprocess.run(command, env=gate.env, capture_output=True, timeout=60)
    assert (done.stdout, done.returncode) == (GREETING, 0), done.stderr.decode()


def test_openssl_verifies_root_and_leaf_strictly(gate: Gate, tmp_path: Path) -> None:
    root, leaf = tmp_path / "root.pem", tmp_path / "leaf.pem"
    root.write_text(gate.writ("ca", "export"))
    leaf.write_text(served_leaf(gate))
    strict = ["openssl", "verify", "-x509_strict", "-CAfile", str(root)]
    verify = [[*strict, str(root)], [*strict, "-purpose", "sslserver", "-verify_hostname", API, str(leaf)]]
    for command in verify:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done.stderr
    other = subprocess.run([*strict, "-verify_hostname", f"x.{API}", str(leaf)], capture_output=True, timeout=30)
    assert other.returncode != 0


def test_the_printed_fingerprint_is_that_of_the_root(gate: Gate, tmp_path: Path) -> None:
    exported = gate.writ("ca", "export")
    command = ["openssl", "x509", "-noout", "-fingerprint", "-sha256"]
    done = subprocess.run(command, input=exported, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.strip().partition("=")[2] == gate.shown("CA SHA-256")
    page = ["curl", "--silent", "--max-time", "30", "http://writ.internal/ca.pem"]
    served = subprocess.run(page, env=gate.env, capture_output=True, text=True, timeout=60, check=True)
    assert served.stdout == exported


def served_leaf(gate: Gate) -> str:
    """The leaf that a client is shown for the origin's name, as PEM."""
    url = urlsplit(gate.env["HTTPS_PROXY"])
    door = f"{url.hostname}:{url.port}"
    proxy = ["-proxy", door, "-proxy_user", str(url.username), "-proxy_pass", f"pass:{url.password}"]
    command = ["openssl", "s_client", *proxy, "-connect", f"{API}:443", "-servername", API]
    done = subprocess.run(command, input="", capture_output=True, text=True, timeout=30)
    [leaf] = re.findall(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n", done.stdout, re.DOTALL)
    return leaf


def runs(program: str) -> bool:
    found = shutil.which(program)
    return found is not None and subprocess.run([found, "-c", ""], capture_output=True, timeout=30).returncode == 0
