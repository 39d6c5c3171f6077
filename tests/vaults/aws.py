"""moto in AWS's place."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import boto3
import requests
from botocore.config import Config

from certificates import Certificates

REGION = "eu-central-1"
DUMMY = {"aws_access_key_id": "a", "aws_secret_access_key": "b"}


class Moto:
    """A server of its own; with TLS where it has certificates."""

    def __init__(self, folder: Path, certificates: Certificates | None = None) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self._verify: str | bool = True
        command = [Path(sys.executable).parent / "moto_server", "-H", "127.0.0.1", "-p", str(self.port)]
        if certificates:
            self.address, self._verify = f"https://localhost:{self.port}", str(certificates.roots)
            command += ["-s", "-c", certificates.chain, "-k", certificates.key]
        # Buckets are in paths: the gate's host is one that S3 does not know.
        env = {"HOME": str(folder), "PATH": os.environ["PATH"], "S3_IGNORE_SUBDOMAIN_BUCKETNAME": "true"}
        with (folder / "moto.log").open("wb") as log:
            self._process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
        while not self._is_up():
            time.sleep(0.1)
        self._secrets = self.client("secretsmanager")

    def client(self, service: str, keys: dict[str, str] = DUMMY) -> Any:
        """A client that asks it without a gate between."""
        in_path = Config(s3={"addressing_style": "path"})
        where = {"region_name": REGION, "endpoint_url": self.address, "verify": self._verify, "config": in_path}
        return boto3.client(service, **where, **keys)

    def check_signatures(self) -> None:
        """From now on, who asks needs keys that it made, and a signature with them."""
        assert requests.post(f"{self.address}/moto-api/reset-auth", data="0", verify=self._verify, timeout=30).ok

    def create(self, name: str, value: str | bytes) -> dict[str, Any]:
        kind = "SecretString" if isinstance(value, str) else "SecretBinary"
        return self._secrets.create_secret(Name=name, **{kind: value})

    def change(self, name: str, value: str) -> None:
        self._secrets.put_secret_value(SecretId=name, SecretString=value)

    def delete(self, name: str) -> None:
        self._secrets.delete_secret(SecretId=name)

    def session_token(self) -> str:
        """The one that every login gets."""
        role, name, token = "arn:aws:iam::123456789012:role/any", "test", "token"
        login = self.client("sts").assume_role_with_web_identity(RoleArn=role, RoleSessionName=name, WebIdentityToken=token)
        return login["Credentials"]["SessionToken"]

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=30)

    def _is_up(self) -> bool:
        assert self._process.poll() is None
        try:
            return requests.get(f"{self.address}/moto-api/", verify=self._verify, timeout=5).ok
        except requests.ConnectionError:
            return False
