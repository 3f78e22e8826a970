"""moto's S3 server, with conditional puts made one after the other.

moto looks whether an object exists and writes it in two steps, and answers requests on many threads: on a busy machine several of those who create
the same name at the same time succeed. S3 lets one succeed, and Aquifer refuses a store that does not.

Usage: atomic_moto.py

Listens on a loopback port that the system chooses, and says on its first line which.
"""

import threading

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

moto = DomainDispatcherApplication(create_backend_app)
conditional = threading.Lock()


def atomic(environ, start_response):
    if "HTTP_IF_NONE_MATCH" in environ or "HTTP_IF_MATCH" in environ:
        with conditional:
            return moto(environ, start_response)
    return moto(environ, start_response)


server = make_server("127.0.0.1", 0, atomic, threaded=True)
print(server.socket.getsockname()[1], flush=True)
server.serve_forever()
