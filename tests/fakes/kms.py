"""A key management service over HTTPS, as far as its key-value engine of version 2 goes."""

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from services.kit.authority import Authority
from services.kit.clock import FixedClock

TOKEN = "hvs.of-this-test"


class Kms:
    """A service that runs.

    Args:
        address: "https://host:port".
        ca_file: certificates that sign its own.
        values: its secrets by name.
    """

    def __init__(self, address: str, ca_file: Path, values: dict[str, str]) -> None:
        self.address = address
        self.ca_file = ca_file
        self.values = values
        self.sealed = False


@contextmanager
def kms(folder: Path) -> Iterator[Kms]:
    """Serve one on loopback.

    Args:
        folder: for its certificates.
    """
    authority = Authority.create("kms", clock=FixedClock(datetime.now(UTC)))
    issued = authority.issue("kms", hosts=["127.0.0.1"])
    (folder / "kms-ca.pem").write_text(authority.certificate)
    (folder / "kms.pem").write_text(issued.certificate + issued.key)
    made = Kms("", folder / "kms-ca.pem", {})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.removeprefix("/v1/secret/data/")
            if made.sealed:
                self._answer(503, {"errors": ["Vault is sealed"]})
            elif self.headers.get("X-Vault-Token") != TOKEN:
                self._answer(403, {"errors": ["permission denied"]})
            elif name not in made.values:
                self._answer(404, {"errors": []})
            else:
                data = {"data": {"value": made.values[name]}, "metadata": {"version": 1}}
                self._answer(200, {"data": data})

        def _answer(self, status: int, content: object) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "kms.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    made.address = f"https://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
