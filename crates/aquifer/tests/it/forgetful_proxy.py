"""A proxy before an S3 server that drops the If-None-Match header, so that create-if-absent overwrites, as it does on some S3 look-alikes.

Usage: forgetful_proxy.py http://HOST:PORT

Listens on a loopback port that the system chooses, and says on its first line which.
"""

import http.client
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

SERVER = urlsplit(sys.argv[1])
NOT_FORWARDED = {"if-none-match", "connection", "transfer-encoding"}


class Proxy(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def forward(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name: value for name, value in self.headers.items() if name.lower() not in NOT_FORWARDED}
        connection = http.client.HTTPConnection(SERVER.hostname, SERVER.port, timeout=300)
        connection.request(self.command, self.path, body=body, headers=headers)
        answer = connection.getresponse()
        content = answer.read()
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in NOT_FORWARDED | {"content-length"}:
                self.send_header(name, value)
        # The length of what a HEAD would have answered is the answer.
        length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
        self.send_header("Content-Length", length or "0")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
        connection.close()

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = forward

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    # Connections that wait while the machine does something else.
    request_queue_size = 128


server = Server(("127.0.0.1", 0), Proxy)
print(server.server_address[1], flush=True)
server.serve_forever()
