"""Sends events to a receiver that resets the connection again and again, and counts what was lost and what came twice.

`storm.py [--full]`, with a Python that has devo-sdk, which goes through the same storm for comparison: its losses are shown, ours fail
the test. Ours count as lost if they were in nothing that the receiver has read, and also if they were only in what a receiver throws
away that keeps nothing of a connection that did not end in order (RELP, HTTP: nothing that it did not answer). With `--full`: all
sizes with 200,000 events, and calm runs that show what each way costs.
"""

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

from common import Table, event_of, make_certificates, make_events, read_events, send
from recorder import Recorder

SDK = [sys.executable, f"{sys.path[0]}/sdk_send.py"]
WAYS = [("tls", {}), ("tcp", {}), ("relp", {}), ("relp+tls", {}), ("http", {})]
CALM = [
    *WAYS,
    ("tls", {"accepted": "acknowledged"}),
    ("tcp", {"accepted": "acknowledged"}),
    ("tls", {"gzip": "on"}),
    ("tcp", {"gzip": "on"}),
    ("tls", {"connections": 1}),
]
SDK_WAYS = [("tls", {}), ("tcp", {})]
SDK_CALM = [*SDK_WAYS, ("tls", {"gzip": "on"})]
# HTTP waits longest between its tries: 4,000 resets are ten minutes.
SECONDS = 1200


def counted(recorder, sent):
    """How many events are in nothing that was read, how many are in nothing that is sure, how many came again, and how many lines
    that came are none of those sent."""
    wanted = set(sent)
    read, sure = Counter(), set()
    for connection in recorder.connections:
        read.update(event_of(line) for line in connection.lines())
        sure.update(event_of(line) for line in connection.sure_lines())
    strange = sum(count for event, count in read.items() if event not in wanted)
    repeats = sum(count - 1 for event, count in read.items() if event in wanted)
    return len(wanted - read.keys()), len(wanted - sure), repeats, strange


def run(table, folder, sent, scheme, settings, kilobytes, name, program):
    """One sender through one storm, or in calm, and its row in the table."""
    recorder = Recorder(scheme, folder, kilobytes * 1000)
    said = send(folder, recorder.url, f"{folder}/{len(sent)}", program=program, seconds=SECONDS, **settings)
    recorder.stop()
    if settings.get("gzip") == "on":
        for connection in recorder.connections:
            connection.inflate()
    lost, unsure, repeats, strange = counted(recorder, sent)
    pace = f"{len(sent) / said['seconds']:,.0f} events/s, {len(sent) / max(said['cpu_seconds'], 0.01):,.0f} per CPU s"
    if not kilobytes:
        good = said["accepted"] == len(sent) and not lost and not strange
        return table.row(good, f"calm: {name}", f"{len(sent):,} events, {lost} lost, {repeats} twice, {pace}")
    text = (
        f"{len(sent):,} events, {lost:,} lost ({unsure:,} by the strict count), {repeats:,} again, {strange:,} garbled, "
        f"{recorder.resets:,} resets ({recorder.unread:,} with bytes unread), {len(recorder.connections):,} connections, "
        f"{said['seconds']:.1f} s, {pace}"
    )
    if program:
        text += f"; it reports {said['accepted']:,} sent, {said['failures']:,} errors"
        return table.row(True, f"reset every {kilobytes} kB: {name}", text)
    whole = (said["accepted"], said["unsettled"], lost, unsure, strange) == (len(sent), 0, 0, 0, 0)
    if not whole:
        text += f"; it says {said}"
    return table.row(whole and recorder.resets > 0, f"reset every {kilobytes} kB: {name}", text)


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--full", action="store_true")
    arguments.add_argument("--only", help="a part of the name of the runs to do", default="")
    chosen = arguments.parse_args()
    storms = [(1024, 200_000), (256, 200_000), (64, 200_000)] if chosen.full else [(1024, 100_000), (64, 10_000)]
    table = Table()
    with tempfile.TemporaryDirectory() as folder:
        make_certificates(folder)
        for kilobytes, count in [(0, 200_000)] * chosen.full + storms:
            runs = [("ours", scheme, settings, None) for scheme, settings in (WAYS if kilobytes else CALM)]
            runs += [("devo-sdk", scheme, settings, SDK) for scheme, settings in (SDK_WAYS if kilobytes else SDK_CALM)]
            runs = [run for run in runs if chosen.only in f"{kilobytes} {run[0]} {run[1]}"]
            if runs and not Path(folder, str(count)).exists():
                make_events(f"{folder}/{count}", count)
                sent = read_events(f"{folder}/{count}")
            for who, scheme, settings, program in runs:
                name = " ".join([who, scheme, *(f"{key}={value}" for key, value in settings.items())])
                run(table, folder, sent, scheme, settings, kilobytes, name, program)
    table.end()


main()
