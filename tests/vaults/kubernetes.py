"""A FAKE of the Kubernetes API server: it reviews tokens (TokenReview) and does nothing else."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NAMESPACE = "agents"
ACCOUNT = "writ"


class Kubernetes:
    """Knows the tokens it was told of."""

    def __init__(self) -> None:
        self.known: set[str] = set()
        known = self.known

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                user = {"username": f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}", "uid": "uid-1", "groups": []}
                valid = asked["spec"]["token"] in known and self.path.endswith("/tokenreviews")
                who = {"user": user, "audiences": asked["spec"].get("audiences", [])}
                asked["status"] = {"authenticated": valid} | (who if valid else {})
                reply = json.dumps(asked).encode()
                self.send_response(201)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(reply)))
                self.end_headers()
                self.wfile.write(reply)

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def token(self) -> str:
        """The token of a service account, as a pod finds it. Nothing verifies its signature but this server."""
        account = {"namespace": NAMESPACE, "serviceaccount": {"name": ACCOUNT, "uid": "uid-1"}}
        claims = {
            "iss": "https://kubernetes.default.svc.cluster.local",
            "sub": f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}",
            "aud": ["https://kubernetes.default.svc"],
            "exp": 4102444800,
            "iat": 1700000000,
            "nbf": 1700000000,
            "kubernetes.io": account,
        }
        parts = [{"alg": "RS256", "typ": "JWT"}, claims]
        token = ".".join([*(encoded(json.dumps(part).encode()) for part in parts), encoded(b"CANARY" * 8)])
        self.known.add(token)
        return token

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
