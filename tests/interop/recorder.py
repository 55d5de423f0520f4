"""A receiver for every way into Devo that records what it reads, and that can be a bad one: it resets connections."""

import gzip
import io
import re
import select
import socket
import ssl
import struct
import threading
from contextlib import suppress

from common import HOST

FRAME = re.compile(rb"(\d+) ([a-z]+) (\d+)[ \n]")
OFFERS = b"200 OK\nrelp_version=0\nrelp_software=recorder\ncommands=syslog"


class Reset(Exception):
    """It is time to reset the connection."""


class Connection:
    """What came on one connection: the bytes of a stream, or the lines of RELP frames and HTTP requests that came whole."""

    def __init__(self):
        self.chunks, self.framed, self.answered, self.orderly, self.version = [], [], 0, False, None

    def lines(self):
        """Every whole line read, also before a reset."""
        if self.framed or not self.chunks:
            return self.framed
        return b"".join(self.chunks).split(b"\n")[:-1]

    def inflate(self):
        """Takes the gzip members of a stream apart."""
        # `gzip.decompress` copies all that is left for each member.
        with gzip.GzipFile(fileobj=io.BytesIO(b"".join(self.chunks))) as members:
            self.chunks = [members.read()]

    def sure_lines(self):
        """Those that a receiver keeps which throws away what it has not answered, or read to an orderly end."""
        return self.framed[: self.answered] if self.framed else self.lines() if self.orderly else []


class Recorder:
    """Listens on a free loopback port, by the scheme of a Devo URL; where `every` is not 0, after each so many bytes that it has read,
    whichever connections they came on, it resets the connection that the last of them came on, with more bytes unread in its buffer."""

    def __init__(self, scheme, certs=None, every=0):
        self.every, self.left, self.lock = every, every, threading.Lock()
        self.resets, self.unread, self.connections = 0, 0, []
        self.serve = {"relp": self.relp, "http": self.http}.get(scheme.removesuffix("+tls"), self.stream)
        self.context = None
        if scheme.endswith("tls"):
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(f"{certs}/server.crt", f"{certs}/server.key")
            self.context.load_verify_locations(f"{certs}/ca.crt")
            self.context.verify_mode = ssl.CERT_REQUIRED
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.listener.getsockname()[1]
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        self.threads = [threading.Thread(target=self.accept, daemon=True)]
        self.threads[0].start()

    def accept(self):
        with suppress(OSError):
            while True:
                self.threads.append(threading.Thread(target=self.handle, args=[self.listener.accept()[0]], daemon=True))
                self.threads[-1].start()

    def stop(self):
        """Takes no more connections, and waits for those there are."""
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for thread in self.threads:
            thread.join(30)

    def handle(self, plain):
        peer = plain
        connection = Connection()
        with suppress(OSError):
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.context:
                peer = self.context.wrap_socket(plain, server_side=True)
                connection.version = peer.version()
            self.connections.append(connection)
            try:
                self.serve(peer, connection)
                connection.orderly = True
                if self.context:
                    peer.unwrap()
            except Reset:
                self.reset(peer)
        with suppress(OSError):
            peer.close()

    def read(self, peer):
        """Some bytes, none at the end; and whether the connection is then to be reset."""
        data = peer.recv(min(32_768, max(self.left, 1)) if self.every else 262_144)
        if not self.every:
            return data, False
        with self.lock:
            self.left -= len(data)
            due = self.left <= 0
            if due:
                self.left = self.every
        return data, due

    def reset(self, peer):
        # The rest of what the sender is writing.
        unread = bool(select.select([peer.fileno()], [], [], 0.01)[0])
        with self.lock:
            self.resets, self.unread = self.resets + 1, self.unread + unread
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def stream(self, peer, connection):
        while True:
            data, due = self.read(peer)
            connection.chunks.append(data)
            if due:
                raise Reset
            if not data:
                return

    def relp(self, peer, connection):
        rest = b""
        while True:
            data, due = self.read(peer)
            if not data:
                return
            rest += data
            at, answers, closing = 0, [], False
            while head := FRAME.match(rest, at):
                number, command, length = head[1], head[2], int(head[3])
                end = head.end() + length if length else head.end() - 1
                if len(rest) <= end:
                    break
                if rest[end : end + 1] != b"\n":
                    raise OSError("malformed frame")
                if command == b"syslog":
                    connection.framed.append(rest[head.end() : end])
                closing = command == b"close"
                answer = OFFERS if command == b"open" else b"" if closing else b"200 OK"
                answers.append(b"%s rsp %d%s\n" % (number, len(answer), b" " + answer if answer else b""))
                at = end + 1
            rest = rest[at:]
            if due:
                raise Reset
            peer.sendall(b"".join(answers))
            connection.answered = len(connection.framed)
            if closing:
                return

    def http(self, peer, connection):
        rest, due = b"", False
        while True:
            while (whole := self.request(rest)) is None:
                if due:
                    raise Reset
                data, due = self.read(peer)
                if not data:
                    return
                rest += data
            table, body, rest = whole
            connection.framed += [f"<14>Jan  1 00:00:00 {HOST} {table}: ".encode() + line for line in body.split(b"\n")[:-1]]
            if due:
                raise Reset
            peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            connection.answered = len(connection.framed)

    @staticmethod
    def request(data):
        """Table, body and what follows of the request that is at the beginning; `None` while it is not whole."""
        head, end, rest = data.partition(b"\r\n\r\n")
        if not end:
            return None
        length = int(re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)[1])
        if len(rest) < length:
            return None
        return head.split(b" ", 2)[1].rsplit(b"/", 1)[1].decode(), gzip.decompress(rest[:length]), rest[length:]
