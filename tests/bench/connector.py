"""What a typical connector in Python costs: gunzip, json.loads, and each event sent as syslog over mutual TLS.

`connector.py plain|sdk URL FOLDER` takes `*.gz` of FOLDER and its `chain.pem`, `cert.pem` and `key.pem`, sends all events by a socket of
the standard library or by the official devo-sdk, and prints how many there were and microseconds of CPU for each. The bench `speed`
calls it.
"""

import gzip
import json
import socket
import ssl
import sys
import time
from pathlib import Path

WAY, URL, FOLDER = sys.argv[1], sys.argv[2], Path(sys.argv[3])
HOST, PORT = URL.split("://")[1].rsplit(":", 1)
CHAIN, CERT, KEY = (str(FOLDER / name) for name in ("chain.pem", "cert.pem", "key.pem"))


def plain():
    context = ssl.create_default_context(cafile=CHAIN)
    context.check_hostname = False
    context.load_cert_chain(CERT, KEY)
    connection = context.wrap_socket(socket.create_connection((HOST, int(PORT))))

    def send(tag, event):
        stamp = time.strftime("%b %d %H:%M:%S")
        connection.sendall(f"<14>{stamp} connector {tag}: {event}\n".encode())

    def close():
        connection.unwrap().close()

    return send, close


def sdk():
    import logging

    from devo.sender import Sender, SenderConfigSSL

    logging.disable(logging.CRITICAL)
    config = SenderConfigSSL(address=(HOST, int(PORT)), key=KEY, cert=CERT, chain=CHAIN, check_hostname=False, verify_mode=0)
    sender = Sender(config)
    return lambda tag, event: sender.send(tag=tag, msg=event), sender.close


send, close = {"plain": plain, "sdk": sdk}[WAY]()
count, begin = 0, time.process_time()
for file in sorted(FOLDER.glob("*.gz")):
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        for line in lines:
            event = json.loads(line)
            send(f"mail.mimecast.siem.{event['type'].replace(' ', '_')}", json.dumps(event))
            count += 1
close()
print(count, (time.process_time() - begin) * 1e6 / count)
