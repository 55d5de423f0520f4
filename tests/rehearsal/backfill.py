"""The state machine for backfills, rehearsed: a real range of `audit`, with one slice that fails at first and one that is busy.

Both are provoked in the checkpoint table, where a slice has an item of its own: one that a newer version seems to have written
is refused with the error `Checkpoint`, and a lease that somebody holds answers `busy`.
"""

import json
import time
from datetime import datetime, timedelta, timezone

HOURS, SLICE_HOURS, CONCURRENCY = 20, 6, 2
ID = "rehearsal"
PATIENCE = 180


def rehearse_backfill(client, machine, stack, tenant):
    """Collects 20 hours of `audit` in slices, and the same once more in one run for comparison; returns the summary.

    `client` makes boto3's client of a service. A backfill repeats what the regular runs have sent: the tenant should have a
    destination where nobody minds.
    """
    states, functions = client("stepfunctions"), client("lambda")
    function = functions.get_function_configuration(FunctionName=f"{stack}-audit")
    checkpoints = Checkpoints(client("dynamodb"), function["Environment"]["Variables"]["CHECKPOINT_TABLE"], f"{tenant}#audit")

    refused = finished(states, start(states, machine, {"source": "dashboard", "from": "yesterday"}))
    assert refused["status"] == "FAILED" and refused["error"] == "Configuration", refused
    assert all(f"{key} must be" in refused["cause"] for key in ("source", "from", "to")), refused["cause"]

    end = datetime.now(timezone.utc) - timedelta(hours=1, seconds=1)
    borders = [text(end - timedelta(hours=hours)) for hours in (*range(HOURS, 0, -SLICE_HOURS), 0)]
    slices = list(zip(borders, borders[1:]))
    backfill = {"from": borders[0], "to": borders[-1], "id": ID}
    order = {"source": "audit", "tenant": tenant, "slice_hours": SLICE_HOURS, "concurrency": CONCURRENCY} | backfill

    checkpoints.put(slices[1], version={"N": "999"})
    checkpoints.put(slices[2], lease_until={"N": str(round((time.time() + PATIENCE) * 1000))})
    execution = start(states, machine, order)
    wait_for(lambda: failures(history(states, execution)))
    checkpoints.delete(slices[1])
    wait_for(lambda: "busy" in answers(history(states, execution)))
    checkpoints.delete(slices[2])
    summary = succeeded(states, execution)
    events = history(states, execution)

    assert summary == summary | {key: order[key] for key in ("source", "tenant", "from", "to")}, summary
    assert summary["slices"] == len(slices) and summary["failed"] == summary["gaps"] == [], summary
    assert summary["runs"] == len(answers(events)) > len(slices), "the busy slice has been run again"
    assert answers(events).count("caught_up") == len(slices), answers(events)
    assert set(failures(events)) == {"Checkpoint"}, failures(events)
    assert at_once(events) == CONCURRENCY, at_once(events)
    assert all(checkpoints.state(border)["finished"] for border in slices)

    event = {"tenant": tenant, "backfill": backfill | {"id": "in-one-run"}}
    whole = json.load(functions.invoke(FunctionName=f"{stack}-audit", Payload=json.dumps(event))["Payload"])
    assert whole["status"] == "caught_up" and summary["events"] == whole["events"] > 0, (summary, whole)

    again = succeeded(states, start(states, machine, order))
    assert (again["events"], again["requests"], again["runs"]) == (0, 0, len(slices)), again
    return summary


class Checkpoints:
    """The slices' items in the checkpoint table."""

    def __init__(self, dynamodb, table, pk):
        self.dynamodb, self.table, self.pk = dynamodb, table, pk

    def key(self, border):
        """A slice's key: the id and the range, to the millisecond."""
        sk = "#".join(["backfill", ID, *(instant.replace("Z", ".000Z") for instant in border)])
        return {"pk": {"S": self.pk}, "sk": {"S": sk}}

    def put(self, border, **attributes):
        self.dynamodb.put_item(TableName=self.table, Item=self.key(border) | attributes)

    def delete(self, border):
        self.dynamodb.delete_item(TableName=self.table, Key=self.key(border))

    def state(self, border):
        item = self.dynamodb.get_item(TableName=self.table, Key=self.key(border), ConsistentRead=True)["Item"]
        return json.loads(item["state"]["S"])


def text(instant):
    return instant.strftime("%Y-%m-%dT%H:%M:%SZ")


def start(states, machine, order):
    return states.start_execution(stateMachineArn=machine, input=json.dumps(order))["executionArn"]


def finished(states, execution):
    wait_for(lambda: states.describe_execution(executionArn=execution)["status"] != "RUNNING")
    return states.describe_execution(executionArn=execution)


def succeeded(states, execution):
    end = finished(states, execution)
    assert end["status"] == "SUCCEEDED", (end.get("error"), end.get("cause"))
    return json.loads(end["output"])


def history(states, execution):
    pages = states.get_paginator("get_execution_history").paginate(executionArn=execution)
    return [event for page in pages for event in page["events"]]


def failures(events):
    """The errors of the tries that failed."""
    return [event["taskFailedEventDetails"]["error"] for event in events if event["type"] == "TaskFailed"]


def answers(events):
    """The status of each run that answered."""
    return [json.loads(event["taskSucceededEventDetails"]["output"])["Payload"]["status"] for event in events
            if event["type"] == "TaskSucceeded"]


def at_once(events):
    """How many tries were under way at the same time, at most."""
    under_way = most = 0
    for event in events:
        under_way += {"TaskScheduled": 1, "TaskSucceeded": -1, "TaskFailed": -1}.get(event["type"], 0)
        most = max(most, under_way)
    return most


def wait_for(probe):
    end = time.monotonic() + PATIENCE
    while not probe():
        assert time.monotonic() < end, f"not within {PATIENCE} s"
        time.sleep(0.2)
