"""AWS requests signed anew: boto3 with keys that are worth nothing, and an S3 that checks every signature."""

import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests
from botocore.config import Config
from botocore.exceptions import ClientError

from aws import REGION, Moto
from certificates import Certificates
from conftest import Start
from gate import Gate, write
from origin import API

OWN = {"aws_access_key_id": "AKIAOWN", "aws_secret_access_key": "own"}
CONTENT = bytes(range(256)) * 300
ALL = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]})


@pytest.fixture(scope="module")
def moto(folder: Path, certificates: Certificates) -> Iterator[Moto]:
    started = Moto(folder, certificates)
    yield started
    started.stop()


@pytest.fixture(scope="module")
def gate(start: Start, folder: Path, moto: Moto) -> Gate:
    keys, lent = user_keys(moto), role_keys(moto)
    for bucket in ("plain", "lent", "wrong"):
        moto.client("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    texts = {"secret": keys["SecretAccessKey"], "wrong": "x" * 40}
    texts |= {"lent-id": lent["AccessKeyId"], "lent-secret": lent["SecretAccessKey"], "lent-session": lent["SessionToken"]}
    for name, text in texts.items():
        write(folder / name, text)
    moto.check_signatures()

    def credential(secret: str, **more: str) -> dict[str, Any]:
        settings = {"region": REGION, "service": "s3", "access_key_id": keys["AccessKeyId"]} | more
        return {"secret": f"file://{folder / secret}", "inject": {"sigv4": settings}}

    credentials = {
        "plain": credential("secret"),
        "lent": credential(
            "lent-secret", access_key_id=f"file://{folder / 'lent-id'}", session_token=f"file://{folder / 'lent-session'}"
        ),
        "wrong": credential("wrong"),
    }
    return start({}, credentials, address=f"127.0.0.1:{moto.port}")


@pytest.fixture(scope="module")
def s3(gate: Gate) -> Any:
    """The agent's client."""
    config = Config(proxies={"https": gate.proxy}, s3={"addressing_style": "path"}, retries={"total_max_attempts": 1})
    return boto3.client("s3", region_name=REGION, endpoint_url=f"https://{API}", verify=gate.roots, config=config, **OWN)


@pytest.mark.parametrize("bucket", ["plain", "lent"])
@pytest.mark.parametrize("key", ["report.csv", "a b/ü+c=d&e,f.txt", "x~y/(1)!*'.bin"])
def test_what_boto3_uploads_is_signed_anew(gate: Gate, s3: Any, bucket: str, key: str) -> None:
    put = s3.put_object(Bucket=bucket, Key=key, Body=CONTENT, ContentType="text/csv", Metadata={"by": "agent"})
    assert put["ResponseMetadata"]["HTTPStatusCode"] == 200
    got = s3.get_object(Bucket=bucket, Key=key)
    assert (got["Body"].read(), got["ContentType"], got["Metadata"]) == (CONTENT, "text/csv", {"by": "agent"})
    # The upload came as `aws-chunked`; what is recorded and sent is the content alone.
    correlation = put["ResponseMetadata"]["HTTPHeaders"]["writ-correlation-id"]
    [allowed] = [event for event in gate.events() if event["type"] == "decision.allowed" and event["correlation_id"] == correlation]
    assert allowed["data"]["body_sha256"] == hashlib.sha256(CONTENT).hexdigest()


def test_a_stream_of_unknown_content_is_signed_anew(s3: Any) -> None:
    s3.upload_fileobj(io.BytesIO(CONTENT), "plain", "stream")
    assert s3.get_object(Bucket="plain", Key="stream", Range="bytes=256-511")["Body"].read() == CONTENT[256:512]
    listed = s3.list_objects_v2(Bucket="plain", Prefix="stre", MaxKeys=7)
    assert [each["Key"] for each in listed["Contents"]] == ["stream"]


def test_signed_chunks_are_taken_off_and_their_content_is_signed_anew(gate: Gate, s3: Any) -> None:
    """As SDKs for Java and Go upload: each chunk has a signature, which only the agent's own keys could make."""
    chunks = [CONTENT[:65_536], CONTENT[65_536:], b""]
    body = b"".join(b"%x;chunk-signature=%064x\r\n%b\r\n" % (len(chunk), 7, chunk) for chunk in chunks)
    own = "AWS4-HMAC-SHA256 Credential=AKIAOWN/20261120/eu-central-1/s3/aws4_request, SignedHeaders=host, Signature=00"
    headers = {
        "authorization": own,
        "content-encoding": "aws-chunked",
        "x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        "x-amz-date": "20261120T000000Z",
        "x-amz-decoded-content-length": str(len(CONTENT)),
    }
    ask = {"headers": headers, "proxies": {"https": gate.proxy}, "verify": gate.roots, "timeout": 30}
    put = requests.put(f"https://{API}/plain/chunks", data=body, **ask)
    assert put.status_code == 200, put.text
    got = s3.get_object(Bucket="plain", Key="chunks")
    assert (got["Body"].read(), got.get("ContentEncoding")) == (CONTENT, None)
    headers["x-amz-decoded-content-length"] = "7"
    assert requests.put(f"https://{API}/plain/chunks", data=body, **ask).status_code == 400


def test_the_signature_is_checked(moto: Moto, s3: Any) -> None:
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        s3.put_object(Bucket="wrong", Key="x", Body=CONTENT)
    with pytest.raises(ClientError, match="InvalidAccessKeyId"):
        moto.client("s3", OWN).put_object(Bucket="plain", Key="x", Body=CONTENT)


def test_k01_no_key_is_written_anywhere(gate: Gate, folder: Path) -> None:
    gate.assert_silent(*((folder / name).read_text() for name in ("secret", "wrong", "lent-secret", "lent-session")))


def user_keys(moto: Moto) -> dict[str, str]:
    iam = moto.client("iam")
    iam.create_user(UserName="gate")
    iam.put_user_policy(UserName="gate", PolicyName="all", PolicyDocument=ALL)
    return iam.create_access_key(UserName="gate")["AccessKey"]


def role_keys(moto: Moto) -> dict[str, str]:
    iam = moto.client("iam")
    trust = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": "*"}}
    trust = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    role = iam.create_role(RoleName="gate", AssumeRolePolicyDocument=trust)["Role"]
    iam.put_role_policy(RoleName="gate", PolicyName="all", PolicyDocument=ALL)
    return moto.client("sts").assume_role(RoleArn=role["Arn"], RoleSessionName="test")["Credentials"]
