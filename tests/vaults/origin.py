"""An HTTPS API that remembers every request it is sent."""

import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from certificates import Certificates

API = "api.example"


@dataclass(frozen=True)
class Hit:
    """A request as it arrived; header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]

    @property
    def secret(self) -> str:
        return self.headers["authorization"].removeprefix("Bearer ")


class Origin:
    """Answers everything with 200 until it is closed."""

    def __init__(self, certificates: Certificates) -> None:
        self._hits: list[Hit] = []
        self.on_hit: Callable[[Hit], None] = lambda hit: None
        """Called with each request before it is answered."""
        origin = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                hit = Hit(self.command, self.path, headers)
                origin._hits.append(hit)
                origin.on_hit(hit)
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            do_GET = do_POST = answer

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.chain, certificates.key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._server.server_port}"

    def hits(self, credential: str) -> list[Hit]:
        """What arrived at the paths of one credential."""
        return [hit for hit in list(self._hits) if hit.path.startswith(f"/{credential}/")]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
