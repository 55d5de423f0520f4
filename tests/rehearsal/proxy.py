"""A proxy on a free port of this machine, for what stands behind another one: it sees, and may change, what is answered."""

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Proxy(ThreadingHTTPServer):
    """Passes requests on to `behind`, a host with its port, as they are; `answered` is for subclasses."""

    daemon_threads = True

    def __init__(self, behind):
        super().__init__(("127.0.0.1", 0), Passing)
        self.behind = behind
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def answered(self, request, body, answer):
        """The body of the answer to `body`, which has come with the path and headers of `request`."""
        return answer


class Passing(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        behind = http.client.HTTPConnection(self.server.behind, timeout=60)
        # The host stays, as it is part of AWS's signatures; without Accept-Encoding the answer is to be read.
        behind.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() != "accept-encoding":
                behind.putheader(name, value)
        behind.endheaders(body)
        response = behind.getresponse()
        answer = self.server.answered(self, body, response.read())
        behind.close()
        self.send_response_only(response.status)
        for name, value in response.getheaders():
            if name.lower() not in ("connection", "content-length", "transfer-encoding"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST

    def log_message(self, *_):
        pass
