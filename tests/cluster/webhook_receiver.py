"""A receiver of webhooks in a pod: says no to the first, yes to all others, and writes each to its log. Stdlib only."""

import itertools
import json
import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

count = itertools.count()


class Handler(BaseHTTPRequestHandler):
    """Takes POST."""

    def do_POST(self) -> None:
        """Answer one event."""
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        status = 200 if next(count) else 500
        heard = {"status": status, "headers": {k.lower(): v for k, v in self.headers.items()}, "body": body}
        print(json.dumps(heard), flush=True)
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1])
server = ThreadingHTTPServer(("", 8443), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.serve_forever()
