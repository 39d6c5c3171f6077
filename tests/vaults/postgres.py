"""A PostgreSQL server of its own in a temporary folder; not run as root, which it refuses."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

USER = "postgres"
PASSWORD = "postgres-CANARY"


class Postgres:
    """Listens on an address of this machine until it is stopped."""

    def __init__(self) -> None:
        [binaries] = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1:]
        self._folder = Path(tempfile.mkdtemp(prefix="writ-postgres-"))
        self._as = {"user": "nobody", "group": "nogroup"} if os.geteuid() == 0 else {}
        if self._as:
            shutil.chown(self._folder, **self._as)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        data, secret = self._folder / "data", self._folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        initdb = [binaries / "initdb", "-D", data, "-U", USER, f"--pwfile={secret}", "-A", "scram-sha-256", "--no-sync"]
        subprocess.run(initdb, check=True, capture_output=True, cwd="/", extra_groups=[], **self._as)
        command = [binaries / "postgres", "-D", data, "-p", str(self.port), "-k", self._folder, "-h", "127.0.0.1"]
        log = (self._folder / "log").open("wb")
        self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", extra_groups=[], **self._as)
        for _ in range(200):
            if self._psql("select 1") == "1":
                return
            time.sleep(0.05)
        raise RuntimeError((self._folder / "log").read_text())

    def has_role(self, name: str) -> bool:
        return self._psql(f"select count(*) from pg_roles where rolname = '{name}'") == "1"

    def stop(self) -> None:
        # At once, whoever is still connected.
        self._process.send_signal(signal.SIGINT)
        self._process.wait(timeout=30)
        shutil.rmtree(self._folder)

    def _psql(self, query: str) -> str:
        assert self._process.poll() is None, (self._folder / "log").read_text()
        url = f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/postgres"
        done = subprocess.run(["psql", "-At", "-c", query, url], capture_output=True, text=True, timeout=30)
        return done.stdout.strip()
