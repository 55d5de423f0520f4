"""Sends a file of events with the official devo-sdk, as our driver does: `sdk_send.py URL FILE SETTINGS`.

As a careful caller uses it: an event that `send` raises for is sent again, at most ten times.
"""

import json
import logging
import sys
import time

from common import HOST, read_events
from devo.sender import DevoSenderException, Sender, SenderConfigSSL, SenderConfigTCP

url, file, settings = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
scheme, _, port = url.replace("://127.0.0.1:", " : ").split(" ")
zipped, multiline = settings.get("gzip") == "on", settings.get("framing") == "octet"
folder = settings["credentials"].rsplit("/", 1)[0]
address = ("127.0.0.1", int(port))
config = SenderConfigTCP(address=address)
if scheme == "tls":
    config = SenderConfigSSL(address=address, key=f"{folder}/client.key", cert=f"{folder}/client.crt", chain=f"{folder}/ca.crt")
quiet = logging.getLogger("quiet")
quiet.disabled = logging.getLogger("devo.sender.data").disabled = True
events = read_events(file)
if not zipped:
    # What it can compress are bytes; what the official collector sends are texts.
    events = [(table, event.decode()) for table, event in events]

cpu, start = time.process_time(), time.monotonic()
sender = Sender(config=config, logger=quiet)
accepted, failures, unsettled, last = 0, 0, 0, None
for table, event in events:
    extra = {"zip": True, "hostname": HOST.encode()} if zipped else {"multiline": multiline, "hostname": HOST}
    for _ in range(10 if time.monotonic() - start < settings["seconds"] else 0):
        try:
            sender.send(table.encode() if zipped else table, event, **extra)
            accepted += 1
            break
        except DevoSenderException as error:
            failures, last = failures + 1, str(error)
    else:
        unsettled += 1
if zipped:
    try:
        sender.flush_buffer()
    except DevoSenderException as error:
        failures, last = failures + 1, str(error)
sender.close()
seconds, cpu = time.monotonic() - start, time.process_time() - cpu
print(json.dumps({"accepted": accepted, "refused": 0, "unsettled": unsettled, "sends": len(events), "failures": failures, "last_failure": last,
                  "seconds": seconds, "cpu_seconds": cpu}))
