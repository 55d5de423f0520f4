"""The official devo-sdk and our driver send the same events to one recorder: after the heads the lines are the same.

`sdk.py [EVENTS]`, with a Python that has devo-sdk.
"""

import sys
import tempfile
import zlib

from common import Table, difference, make_certificates, make_events, read_events, send
from recorder import Recorder

SDK = [sys.executable, f"{sys.path[0]}/sdk_send.py"]


def streams(folder, scheme, settings, program):
    """What a sender wrote, one stream for each connection."""
    recorder = Recorder(scheme, folder)
    said = send(folder, recorder.url, f"{folder}/events", program=program, **settings)
    recorder.stop()
    if said["failures"] or said["unsettled"]:
        raise SystemExit(f"{program}: {said}")
    return [b"".join(connection.chunks) for connection in recorder.connections]


def members(stream):
    """The gzip members of a stream, inflated; a member that is not complete is an error."""
    found = []
    while stream:
        inflate = zlib.decompressobj(31)
        found.append(inflate.decompress(stream))
        if not inflate.eof:
            raise SystemExit("a gzip member without an end")
        stream = inflate.unused_data
    return found


def counted(stream):
    """The lines of octet-counted frames, whose counts include a line feed."""
    lines, at = [], 0
    while at < len(stream):
        blank = stream.index(b" ", at)
        end = blank + 1 + int(stream[at:blank])
        if stream[end - 1 : end] != b"\n":
            raise SystemExit(f"a frame that does not end with its line: {stream[at : at + 80]}")
        lines.append(stream[blank + 1 : end - 1])
        at = end
    return lines


def lines(stream):
    if stream and stream[-1:] != b"\n":
        raise SystemExit("a stream that does not end with a line")
    return stream.split(b"\n")[:-1]


def zipped(stream):
    parts = members(stream)
    if any(part[-1:] != b"\n" for part in parts):
        raise SystemExit("a gzip member that ends within a line")
    return lines(b"".join(parts))


def main():
    table = Table()
    with tempfile.TemporaryDirectory() as folder:
        make_certificates(folder)
        make_events(f"{folder}/events", int(sys.argv[1]) if len(sys.argv) > 1 else 5_000)
        sent = read_events(f"{folder}/events")
        for scheme in ("tcp", "tls"):
            for name, settings, read in [
                ("lines", {}, lines),
                ("multiline (octet counting)", {"framing": "octet"}, counted),
                ("zip (gzip members)", {"gzip": "on"}, zipped),
            ]:
                faults = []
                for who, program in [("devo-sdk", SDK), ("ours", None)]:
                    came = [line for stream in streams(folder, scheme, settings, program) for line in read(stream)]
                    faults += [f"{who}: {fault}" for fault in [difference(sent, came)] if fault]
                table.row(not faults, f"devo-sdk, {scheme}: {name}", "; ".join(faults) or f"{len(sent):,} events the same after the head")
    table.end()


main()
