"""Dollars a month on AWS, from the table that `cargo bench -p functions --bench cost` prints, on standard input.

docs/cost.md says where the assumptions and the prices come from, and reckons one case step by step.
"""

import math
import sys

USERS = [1_000, 10_000, 100_000]
DAYS = 30
# Events a day of each source: for each user, and for all together.
EVENTS = {"audit": (0.5, 0), "attachments": (2, 0), "impersonation": (0.2, 0), "url": (5, 0), "search": (0.02, 0),
          "view": (0.02, 0), "threatfeed": (0, 5_000), "messageholdlist": (0.5, 0), "messageholdsummary": (0, 1_000),
          "dashboard": (0, 5), "siem": (200, 0)}
# As in template.yaml, and how far each run reads again.
MINUTES = dict.fromkeys(EVENTS, 5) | dict.fromkeys(["search", "view", "messageholdlist", "messageholdsummary"], 15)
MINUTES |= dict.fromkeys(["threatfeed", "dashboard"], 60)
OVERLAP = dict.fromkeys(EVENTS, 15) | {"search": 120, "view": 120, "threatfeed": 0, "siem": 0}
# Minutes that the marks are from which a run reads.
READ = {source: OVERLAP[source] + MINUTES[source] for source in EVENTS} | dict.fromkeys(["threatfeed", "siem"], 8 * 24 * 60)
# MB of each function, and those that come with one CPU; seconds of waiting for an answer of Mimecast or Devo, and of AWS.
MEMORY, CPU_MB, REMOTE, AWS = 256, 1769, 0.2, 0.01
# Files of siem in a run, and bytes of a mark.
FILES, MARK = 10, 16
# Bytes of an event, and the part of them that gzip leaves on the way to Devo.
LINE, GZIP = 800, 1 / 5
# Metrics that are told in nearly every hour: of each source LagSeconds, of the tenant that, Events and LateSeconds. Cold starts of a
# function in a day.
METRICS, COLD = len(EVENTS) + 3, 12


def measured(lines):
    """Of each source: a run without events, and by their number runs with some and those after them, which read them again."""
    rows = [[cell.strip() for cell in line.split("|")] for line in lines if line.count("|") > 8]
    found = {}
    for source, kind, *cells in rows[1:]:
        row = dict(zip(rows[0][2:], map(float, cells)))
        none, sizes = found.setdefault(source, (row, []))
        if kind == "idle" and sizes and len(sizes[-1]) == 1:
            sizes[-1].append(row)
        elif kind == "idle":
            none.update(row)
        elif kind == "new":
            sizes.append([row])
    return found


def month(users, found):
    """What is used in a month, by the line of the bill."""
    used = dict.fromkeys(["runs", "GB-s", "write units", "read units", "log GB", "out GB", "stored GB"], 0.0)
    for source, (each, others) in EVENTS.items():
        runs = DAYS * 24 * 60 / MINUTES[source]
        events = DAYS * (users * each + others)
        # Measured with the number of events that is nearest to those in a run.
        none, sizes = found[source]
        new, again = min(sizes, key=lambda size: abs(math.log(max(size[0]["events"], 1) * runs / events)))
        # How often a measured run's worth of events comes; siem has a file or more of each type in every run.
        times = max(events / max(new["events"], 1), runs if source == "siem" else 0)

        def take(column):
            """Of all runs: each as without events, what new events add, and what reading them again for so long adds."""
            more = new[column] - none[column] + OVERLAP[source] / MINUTES[source] * (again[column] - none[column])
            return runs * none[column] + times * more

        # A run with few events sends a batch for them, too.
        batches = max(take("batches"), min(events, runs))
        calls = take("AWS calls")
        waits = (take("requests") + batches) * REMOTE + calls * AWS
        used["runs"] += runs
        used["GB-s"] += (take("CPU ms") / 1000 * CPU_MB / MEMORY + waits) * MEMORY / 1024
        # As if each call were a transaction, of two units and two for each kB; of bytes, 3/4 of what they are in JSON.
        kilobytes = 0.75 * take("kB to DynamoDB")
        used["write units"] += 2 * (calls + kilobytes)
        # Marks are asked for in a run that finds something: of each row, or file, of so many minutes.
        marks = (FILES * runs if source == "siem" else events) * READ[source] / (DAYS * 24 * 60)
        used["read units"] += min(events, runs) * (1 + marks * MARK / 4096)
        used["log GB"] += take("kB logged") / 1e6
        used["out GB"] += events * LINE * GZIP / 1e9
        used["stored GB"] += 3 * kilobytes / 1e6
    return used


def bill(used):
    """Dollars, by the line of the bill: what is used by its price."""
    return {
        "Lambda: requests": used["runs"] * 0.20e-6,
        "Lambda: GB-s (arm64)": used["GB-s"] * 0.0000133334,
        "EventBridge Scheduler": used["runs"] * 1e-6,
        "DynamoDB: written": used["write units"] * 0.625e-6,
        "DynamoDB: read": used["read units"] * 0.125e-6,
        "DynamoDB: stored, with point-in-time recovery": used["stored GB"] * (0.25 + 0.20),
        "Secrets Manager": 2 * 0.40 + 2 * len(EVENTS) * COLD * DAYS * 0.05 / 10_000,
        "CloudWatch: logs": used["log GB"] * 0.50,
        # At most one for each run and for each secret read: DynamoDB keeps a table's key for five minutes.
        "KMS: requests with AWS's own keys": (used["runs"] + 2 * len(EVENTS) * COLD * DAYS) * 0.03 / 10_000,
        "CloudWatch: metrics": METRICS * 0.30,
        # One of each source, six of the tenant, one of the stack.
        "CloudWatch: alarms": (len(EVENTS) + 7) * 0.10,
        "CloudWatch: dashboard": 3.00,
        "Data to Devo": used["out GB"] * 0.09,
    }


def main():
    found = measured(sys.stdin)
    used = [month(users, found) for users in USERS]
    for title, columns in ("used in a month", used), ("dollars a month", [bill(of) for of in used]):
        print(f"| {title} |" + "".join(f" {users:,} users |" for users in USERS) + "\n|---|" + "---:|" * len(USERS))
        for name in columns[0]:
            print(f"| {name} |" + "".join(f" {of[name]:,.2f} |" for of in columns))
    print("| **total** |" + "".join(f" **{sum(bill(of).values()):,.2f}** |" for of in used))


main()
