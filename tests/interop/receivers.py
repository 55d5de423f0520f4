"""Sends events to the syslog servers that people run, rsyslog and syslog-ng from Debian, and compares what they wrote to disk.

`receivers.py SERVERS [EVENTS]`: SERVERS is the folder into which their packages were unpacked. The servers have their own
configuration, listen on loopback and end with this program; nothing of the system is touched.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import HOST, TABLES, Table, difference, free_port, make_certificates, make_events, read_events, send

# The largest events that go out, as the crate's documentation has them: any syslog event, and a RELP frame's data, head included.
SYSLOG_MOST = 1_000_000
RELP_MOST = 128 * 1024
# How often a client with another CA's certificate tries; whether a server's refusal is noticed was a matter of luck once.
STRANGERS = 10
RSYSLOG = """
global(workDirectory="{dir}" maxMessageSize="1100k" parser.escapeControlCharactersOnReceive="off"
       defaultNetstreamDriverCAFile="{certs}/ca.crt" defaultNetstreamDriverCertFile="{certs}/server.crt"
       defaultNetstreamDriverKeyFile="{certs}/server.key")
main_queue(queue.type="LinkedList" queue.size="500000")
{input}
template(name="raw" type="string" string="%rawmsg%\\n")
action(type="omfile" file="{out}" template="raw")
"""
TLS = """module(load="imtcp" maxFrameSize="1100000" streamDriver.name="ossl" streamDriver.mode="1"
         streamDriver.authMode="x509/name" permittedPeer=["domain"]{more})
input(type="imtcp" address="127.0.0.1" port="{port}")"""
TCP = """module(load="imtcp" maxFrameSize="1100000")
input(type="imtcp" address="127.0.0.1" port="{port}")"""
RELP = """module(load="imrelp" tls.tlslib="openssl")
input(type="imrelp" address="127.0.0.1" port="{port}" maxDataSize="1100k"{more})"""
RELP_TLS = """ tls="on" tls.authMode="name" tls.permittedPeer=["domain"]
      tls.caCert="{certs}/ca.crt" tls.myCert="{certs}/server.crt" tls.myPrivKey="{certs}/server.key\""""
SYSLOG_NG = """@version: 3.38
options {{ threaded(no); stats-freq(0); log-msg-size(1100000); }};
source s {{ {driver}(ip("127.0.0.1") port({port}) transport("tls") flags(no-parse) log-msg-size(1100000)
    tls(key-file("{certs}/server.key") cert-file("{certs}/server.crt") ca-file("{certs}/ca.crt") peer-verify(required-trusted))); }};
destination d {{ file("{out}" template("$MSG\\n")); }};
log {{ source(s); destination(d); flags(flow-control); }};
"""
TLS_12 = ' gnutlsPriorityString="MinProtocol=TLSv1.2\\nMaxProtocol=TLSv1.2"'

# Name, scheme, configuration, what to fill into it, settings of ours.
WAYS = [
    ("rsyslog imtcp", "tcp", TCP, {}, {}),
    ("rsyslog imtcp, octet counting", "tcp", TCP, {}, {"framing": "octet"}),
    ("rsyslog imtcp TLS, client cert", "tls", TLS, {"more": ""}, {}),
    ("rsyslog imtcp TLS 1.2", "tls", TLS, {"more": TLS_12}, {}),
    ("rsyslog imtcp TLS, octet counting", "tls", TLS, {"more": ""}, {"framing": "octet"}),
    ("rsyslog imtcp TLS, acknowledged", "tls", TLS, {"more": ""}, {"accepted": "acknowledged"}),
    ("rsyslog imrelp", "relp", RELP, {"more": ""}, {}),
    ("rsyslog imrelp TLS, client cert", "relp+tls", RELP, {"more": RELP_TLS}, {}),
    ("syslog-ng TLS, client cert", "tls", SYSLOG_NG, {"driver": "network"}, {"date": "collector"}),
    ("syslog-ng TLS, acknowledged", "tls", SYSLOG_NG, {"driver": "network"}, {"accepted": "acknowledged"}),
    ("syslog-ng TLS, octet counting", "tls", SYSLOG_NG, {"driver": "syslog"}, {"framing": "octet"}),
    ("syslog-ng TLS, octet, acknowledged", "tls", SYSLOG_NG, {"driver": "syslog"}, {"framing": "octet", "accepted": "acknowledged"}),
]

HANGS = "no answer to the TLS handshake in time"


class Server:
    """A running daemon."""

    def __init__(self, packages, certs, config, fill):
        self.folder = tempfile.TemporaryDirectory()
        here = Path(self.folder.name)
        self.port, self.out, self.log = free_port(), here / "out", here / "log"
        values = {"dir": here, "certs": certs, "out": self.out, "port": self.port}
        values |= {key: text.format(**values) if key == "more" else text for key, text in fill.items()}
        if config is SYSLOG_NG:
            (here / "conf").write_text(config.format(**values))
            command = [packages.glob("usr/sbin/syslog-ng"), "-F", "-f", here / "conf", "--pidfile", here / "pid", "--control", here / "ctl",
                       "--persist-file", here / "persist", "--no-caps", "--module-path", packages.glob("usr/lib/syslog-ng/3*")]
        else:
            (here / "conf").write_text(RSYSLOG.format(input=config.format(**values), **values))
            modules = packages.glob("usr/lib/*/rsyslog")
            command = [packages.glob("usr/sbin/rsyslogd"), "-n", "-f", here / "conf", "-i", here / "pid", "-M", modules]
        command = [str(next(part)) if hasattr(part, "__next__") else str(part) for part in command]
        libraries = {str(file.parent) for file in packages.rglob("*.so*")}
        with open(self.log, "wb") as log:
            environment = os.environ | {"LD_LIBRARY_PATH": ":".join(sorted(libraries))}
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    def wait(self):
        """Until it listens."""
        for _ in range(100):
            if self.process.poll() is not None:
                break
            try:
                return socket.create_connection(("127.0.0.1", self.port)).close()
            except OSError:
                time.sleep(0.1)
        raise SystemExit(f"does not start: {self.log.read_text()}")

    def written(self, lines):
        """What it has on disk, once that is so many lines or grows no more."""
        before, still = -1, 0
        while still < 20:
            data = self.out.read_bytes() if self.out.exists() else b""
            if data.count(b"\n") >= lines:
                break
            still = still + 1 if len(data) == before else 0
            before = len(data)
            time.sleep(0.1)
        self.stop()
        return self.out.read_bytes().split(b"\n")[:-1] if self.out.exists() else []

    def stop(self):
        self.process.terminate()
        self.process.wait(30)


def edges(scheme):
    """An event of the largest size that goes out, and one a byte larger."""
    most = SYSLOG_MOST
    if scheme.startswith("relp"):
        most = RELP_MOST - len(f"<14>2026-01-31T12:00:00.123Z {HOST} {TABLES[0]}: ")
    shell = b'{"edge":"%s"}'
    return [shell % (b"x" * (size - len(shell) + 2)) for size in (most, most + 1)]


def make_stranger(folder, stranger):
    """The secret of a client that trusts the server, with a certificate from another CA, under the name that the server knows."""
    make_certificates(stranger)
    secret = json.loads(Path(stranger, "secret.json").read_text())
    secret["chain"] += Path(folder, "ca.crt").read_text()
    Path(stranger, "secret.json").write_text(json.dumps(secret))


def check(packages, folder, stranger, scheme, config, fill, settings):
    """What is wrong with one way, what to say if nothing is, and whether the receiver has stopped to answer."""
    events, file = Path(folder, "events"), Path(folder, "events with edges")
    largest, larger = edges(scheme)
    more = b"".join(f"{TABLES[0]}\t".encode() + event + b"\n" for event in (largest, larger))
    file.write_bytes(events.read_bytes() + more)
    sent = [event for event in read_events(file) if event[1] != larger]
    server = Server(packages, folder, config, fill)
    try:
        server.wait()
        url = f"{scheme}://127.0.0.1:{server.port}"
        # One line is acknowledged by the kernel long before a server has looked at the certificate.
        one = Path(folder, "one event")
        one.write_bytes(events.read_bytes().partition(b"\n")[0] + b"\n")
        times = STRANGERS if scheme.endswith("tls") else 0
        foreign = [send(stranger, url, one, **settings, seconds=20) for _ in range(times)]
        said = send(folder, url, file, **settings)
        written = server.written(len(sent))
        fault = difference(sent, written)
    finally:
        server.stop()
    if (said["accepted"], said["refused"], said["unsettled"]) != (len(sent), 1, 0):
        fault = f"our side says {said}; {fault}"
    if any(one["accepted"] or "cert" not in (one["last_failure"] or "") for one in foreign):
        fault = f"with another CA's certificate our side says {foreign}; {fault}"
    # rsyslog's imtcp stops now and then to answer any handshake. Our side says so, and all that it called accepted is there.
    hangs = said["unsettled"] and HANGS in (said["last_failure"] or "") and len(written) >= said["accepted"]
    text = f"{len(sent):,} events byte for byte, in order; largest {len(largest):,} B, {said['seconds']:.1f} s"
    if foreign:
        text += f"; another CA's certificate refused {len(foreign)} times"
    return fault, text, hangs


def main():
    packages, count = Path(sys.argv[1]).resolve(), int(sys.argv[2]) if len(sys.argv) > 2 else 5_000
    table = Table()
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as stranger:
        make_certificates(folder)
        make_stranger(folder, stranger)
        make_events(f"{folder}/events", count)
        for name, *way in WAYS:
            fault, text, hangs = check(packages, folder, stranger, *way)
            if hangs:
                # Another one, once: twice is no chance.
                fault, text, _ = check(packages, folder, stranger, *way)
                text += "; the second receiver, as the first stopped to answer handshakes"
            table.row(not fault, name, fault or text)
    table.end()


main()
