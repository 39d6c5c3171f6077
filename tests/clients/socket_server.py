"""A real WebSocket server: it greets, sends messages back, and ends as its client asks it to."""

import ssl
import threading

from websockets.sync.server import ServerConnection, serve

from certificates import Certificates

SOCKET = "socket.example"


class SocketServer:
    """Serves on a port of its own, and remembers the head of every request and every message."""

    def __init__(self, certificates: Certificates) -> None:
        self.handshakes: list[dict[str, str]] = []
        self.closes: list[int | None] = []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.chain, certificates.key)
        # Compression would be the gate's to refuse: the server is ready for it.
        self._server = serve(self._talk, "127.0.0.1", 0, ssl=context, max_size=None)
        self.addresses = {f"{SOCKET}:443": f"127.0.0.1:{self._server.socket.getsockname()[1]}"}
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join(timeout=30)

    def _talk(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        self.handshakes.append({name.lower(): value for name, value in connection.request.headers.raw_items()})
        for message in connection:
            if isinstance(message, str) and message.startswith("close "):
                connection.close(int(message.removeprefix("close ")), "as asked")
            elif isinstance(message, str) and message.startswith("send "):
                connection.send(bytes(int(message.removeprefix("send "))))
            else:
                connection.send(message)
        self.closes.append(connection.close_code)
