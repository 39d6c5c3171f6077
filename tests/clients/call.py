"""Calls one gRPC method that answers with a stream, through the gate that the environment names.

    call.py TARGET METHOD MESSAGE

Prints each message as it comes, as a JSON string, and at last the status, its details and the trailers, as an object.
"""

import json
import sys

import grpc

SECONDS = 30


def main(target: str, method: str, message: str) -> None:
    with grpc.secure_channel(target, grpc.ssl_channel_credentials()) as channel:
        # One answer is a stream of one.
        call = channel.unary_stream(method)(message.encode(), timeout=SECONDS)
        try:
            for part in call:
                print(json.dumps(part.decode()), flush=True)
        except grpc.RpcError:
            # The status below says it.
            pass
        trailers = {each.key: each.value for each in call.trailing_metadata() or []}
        print(json.dumps({"code": call.code().name, "details": call.details(), "trailers": trailers}))


if __name__ == "__main__":
    main(*sys.argv[1:])
