"""What the tests of the ways into Devo share: events, certificates, our driver, and the comparison of what came with what was sent."""

import json
import os
import random
import re
import socket
import subprocess
from pathlib import Path

HOST = "interop-host"
TABLES = [f"my.app.interop.{name}" for name in ("audit", "mta", "url", "dlp")]
HEAD = re.compile(rb"<14>(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\.\d{3}Z?|Jan  1 00:00:00) %s ([a-z.]+): " % HOST.encode())

# Fragments of JSON strings that trip receivers: separators that some take for line ends, texts that look like headers, lengths or
# escapes, control characters that JSON allows (DEL, C1), a byte order mark, characters of four bytes.
NASTY = [
    "\u2028", "\u2029", "\u0085", "\ufeff", "\x7f", "\U0001f600", "ü" * 20, r"\u0000", r"\r\n", r"\n", r"\t", r"\"", "\\\\",
    "<14>2026-01-01T00:00:00.000Z h my.app.fake: {}", "<14>Jan  1 00:00:00 h t: ", "123 <14>1 ", "%s%n%rawmsg%", "${MSG}", "#012", "@cim:",
    "17 syslog 5 hello", "200 OK",
]


def make_events(path, count, seed=1):
    """Writes `count` different events as the driver reads them, 765 bytes at a mean, every 5,000th of 60 kB; the same for one seed."""
    chance = random.Random(seed)
    filler = "".join(chance.choices("abcdefghijklmnopqrstuvwxyz ABCDEF0123456789", k=100_000))
    with open(path, "w", encoding="utf-8", newline="") as file:
        for number in range(count):
            size = 60_000 if number % 5_000 == 77 else int(chance.triangular(60, 1_700, 200))
            start = chance.randrange(40_000)
            nasty = "".join(chance.choices(NASTY, k=3))
            event = f'{{"n":{number},"sender":"a{number % 977}@example.com","x":"{nasty}","text":"{filler[start : start + size]}"}}'
            file.write(f"{chance.choice(TABLES)}\t{event}\n")


def read_events(path):
    """The events of such a file: table and bytes."""
    lines = Path(path).read_bytes().split(b"\n")[:-1]
    return [(table.decode(), event) for table, _, event in (line.partition(b"\t") for line in lines)]


def make_certificates(folder):
    """A CA, a server for 127.0.0.1 and localhost, a client as Devo gives them to a domain, and the Devo secret made of them."""
    folder = Path(folder)

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new = ["-newkey", "rsa:2048", "-nodes"]
    openssl("req", "-x509", *new, "-keyout", "ca.key", "-out", "ca.crt", "-days", "30", "-subj", "/CN=interop CA")
    for name, subject, usage in [("server", "localhost", "serverAuth"), ("client", "domain", "clientAuth")]:
        extensions = f"basicConstraints=CA:FALSE\nextendedKeyUsage={usage}\nsubjectAltName=DNS:{subject}"
        (folder / f"{name}.ext").write_text(extensions + (",IP:127.0.0.1" if name == "server" else ""))
        openssl("req", *new, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={subject}")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30",
                "-extfile", f"{name}.ext", "-out", f"{name}.crt")
    texts = {"chain": "ca.crt", "cert": "client.crt", "key": "client.key"}
    secret = {"domain": "domain", "token": "tok3n"} | {key: (folder / file).read_text() for key, file in texts.items()}
    (folder / "secret.json").write_text(json.dumps(secret))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def send(folder, url, file, program=None, **settings):
    """Runs a sender, by default our driver (the program named by the variable DRIVER), and returns what it says."""
    # rsyslog by TLS 1.2 leaves lines unread at times until it is sent to again: mostly a minute in all, and two were not always enough.
    settings = {"credentials": f"{folder}/secret.json", "host": HOST, "seconds": 300} | settings
    command = [*(program or [os.environ["DRIVER"]]), url, str(file), json.dumps(settings)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=settings["seconds"] + 120)
    return json.loads(done.stdout)


def event_of(line):
    """Table and event of a syslog line; `None` where its head is not ours."""
    head = HEAD.match(line)
    return (head[2].decode(), line[head.end() :]) if head else None


def difference(sent, lines):
    """What is wrong with these lines in view of the events sent, byte for byte and in order per table; empty when nothing is."""
    came = [event_of(line) for line in lines]
    faults = [f"line with another head: {line[:120]}" for line, event in zip(lines, came) if event is None][:2]
    for table in TABLES:
        wanted = [event for name, event in sent if name == table]
        got = [event[1] for event in came if event and event[0] == table]
        if wanted == got:
            continue
        if sorted(wanted) == sorted(got):
            faults.append(f"{table}: all there, in another order")
        else:
            lost, strange = set(wanted) - set(got), set(got) - set(wanted)
            faults.append(f"{table}: {len(wanted)} sent, {len(got)} came, {len(lost)} lost, {len(strange)} altered, as {list(strange)[:1]}")
    return "; ".join(faults)


class Table:
    """Rows for people, and whether all of them are good."""

    def __init__(self):
        self.failed = 0

    def row(self, good, name, text):
        self.failed += not good
        print(f"{'ok' if good else 'FAILED':7}{name:48}{text}", flush=True)

    def end(self):
        raise SystemExit(1 if self.failed else 0)
