"""Calls one gRPC method with a stream of messages, through the gate that the environment names.

    call.py TARGET METHOD MESSAGE...

Where the last message is `...`, the stream is not ended before the first reply. Prints each reply as it comes, as a JSON
string, and at last the status, its details, the first and the last metadata, as an object.
"""

import json
import sys
import threading
from collections.abc import Iterator

import grpc

SECONDS = 30


def main(target: str, method: str, *messages: str) -> None:
    replied = threading.Event()

    def stream() -> Iterator[bytes]:
        for message in messages:
            if message == "...":
                replied.wait()
            else:
                yield message.encode()

    with grpc.secure_channel(target, grpc.ssl_channel_credentials()) as channel:
        # A single message is a stream of one.
        call = channel.stream_stream(method)(stream(), timeout=SECONDS)
        try:
            for part in call:
                replied.set()
                print(json.dumps(part.decode()), flush=True)
        except grpc.RpcError:
            # The status below says it.
            replied.set()
        trailers = {each.key: each.value for each in call.trailing_metadata() or []}
        print(json.dumps({"code": call.code().name, "details": call.details(), "trailers": trailers}))


if __name__ == "__main__":
    main(*sys.argv[1:])
