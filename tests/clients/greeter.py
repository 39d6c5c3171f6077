"""A real gRPC server, without generated code: every message is its bytes."""

import queue
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc

from certificates import Certificates

GRPC = "grpc.example"

SECONDS = 30

ABORT = b"abort"
"""A part that ends a stream with an error status."""


class Greeter:
    """Serves one method of each kind, under a service name for each decision."""

    def __init__(self, certificates: Certificates) -> None:
        self.calls: list[bytes] = []
        """The message of every call that arrived."""
        self._streams: defaultdict[bytes, queue.Queue[bytes | None]] = defaultdict(queue.Queue)
        self._server = grpc.server(ThreadPoolExecutor(max_workers=4))
        methods = {
            "Chat": grpc.stream_stream_rpc_method_handler(self._chat),
            "Collect": grpc.stream_unary_rpc_method_handler(self._collect),
            "Greet": grpc.unary_unary_rpc_method_handler(self._greet),
            "Stream": grpc.unary_stream_rpc_method_handler(self._stream),
        }
        services = ["allowed.Greeter", "denied.Greeter", "held.Greeter"]
        handlers = [grpc.method_handlers_generic_handler(service, methods) for service in services]
        self._server.add_generic_rpc_handlers(handlers)
        pair = (certificates.key.read_bytes(), certificates.chain.read_bytes())
        port = self._server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
        self._server.start()
        self.addresses = {f"{GRPC}:443": f"127.0.0.1:{port}"}

    def give(self, message: bytes, part: bytes | None) -> None:
        """The next part of the stream that this message asks for; nothing ends it."""
        self._streams[message].put(part)

    def close(self) -> None:
        self._server.stop(grace=None).wait(timeout=SECONDS)

    def _greet(self, message: bytes, context: grpc.ServicerContext) -> bytes:
        self.calls.append(message)
        return b"hello " + message

    def _collect(self, messages: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        whole = b" ".join(messages)
        self.calls.append(whole)
        return whole

    def _chat(self, messages: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        for message in messages:
            self.calls.append(message)
            yield b"hello " + message

    def _stream(self, message: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        self.calls.append(message)
        while (part := self._streams[message].get(timeout=SECONDS)) is not None:
            if part == ABORT:
                context.set_trailing_metadata([("temperature", "-40")])
                context.abort(grpc.StatusCode.FAILED_PRECONDITION, "too cold")
            yield part
