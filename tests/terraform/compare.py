"""Holds the Terraform module against the template: what CloudFormation would make has to be what Terraform would.

    python tests/terraform/compare.py       # pip install python-hcl2 aws-sam-translator pyyaml

The template's loops are unrolled and its functions written as Terraform's expressions; the module's blocks are read for each source
and its locals put in their places. Then each property has its counterpart, by a name or by a row of PAIRS. Nothing is planned here.
"""

import json
import os
import re
import sys

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
sys.path.insert(0, os.path.join(ROOT, "deploy"))
from expand import expand, yaml_parse  # noqa: E402
from sides import Module, Stack, conditions, right, snake  # noqa: E402

# Parameters that the module leaves to others, and variables that only it has.
LEFT = {"CreateSecrets", "AwsEndpointUrl"}
LEFT_RESOURCES = "MimecastSecret|DevoSecret|Backfill(Role|Logs)?|[a-z]+Backfilled|Dashboard"
OWN = {"name", "bucket", "prefix", "folder"}

# A resource of the template, with {} for the source, and the module's block; the names that differ (none: compared elsewhere, or of
# no meaning to Terraform), and the block's own.
PAIRS = [
    ("{}Function", "aws_lambda_function.source", {
        "code_uri|event_invoke_config.*|environment.variables.aws_endpoint_url": None,
        "tracing": "tracing_config.mode"}, "filename source_code_hash s3_bucket s3_key for_each depends_on"),
    ("{}Function", "aws_lambda_function_event_invoke_config.source", {
        "event_invoke_config.destination_config.on_failure.type|(?!event_invoke).*": None, "event_invoke_config.(.*)": r"\1",
        }, "function_name for_each"),
    ("{}Role", "aws_iam_role.function", {"(assume|managed|policies).*": None}, "name_prefix assume_role_policy for_each"),
    ("{}Logs", "aws_cloudwatch_log_group.function", {"log_group_name": "name"}, "for_each"),
    ("{}FunctionSchedule", "aws_scheduler_schedule.source", {},
        "for_each depends_on target.retry_policy.maximum_retry_attempts"),
    ("{}SilentAlarm", "aws_cloudwatch_metric_alarm.silent", {}, "for_each"),
    ("SchedulerRole", "aws_iam_role.scheduler", {"(assume|policies).*": None}, "name_prefix assume_role_policy"),
    ("ScheduleGroup", "aws_scheduler_schedule_group.sources", {}, ""),
    ("FailedRuns", "aws_sqs_queue.failed_runs", {
        "message_retention_period": "message_retention_seconds"}, "name"),
    ("CheckpointTable", "aws_dynamodb_table.checkpoints", {
        r"attribute_definitions\.(\d)\.attribute_(.*)": r"attribute.\1.\2", "time_to_live_specification": "ttl",
        r"key_schema\.0\.attribute_name": "hash_key", r"key_schema\.1\.attribute_name": "range_key",
        r"key_schema\..\.key_type|sse_specification.sse_type": None,
        "point_in_time_recovery_specification.*": "point_in_time_recovery.enabled",
        "sse_specification.sse_enabled": "server_side_encryption.enabled",
        "sse_specification.kms_master_key_id": "server_side_encryption.kms_key_arn",
        "time_to_live_specification.(.*)": r"ttl.\1"}, "count name"),
    ("LagAlarm", "aws_cloudwatch_metric_alarm.lag", {"alarm_description": None}, "alarm_description"),
    ("FailedRunsAlarm", "aws_cloudwatch_metric_alarm.failed_runs", {}, ""),
]  # fmt: skip

wrong = []


def same(what, template, module):
    if template != module:
        wrong.append(f"{what}: the template has {template!r}, the module {module!r}")


def flat(value, path=""):
    """Each leaf by its path. A list of one block is the block."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        if set(value[0]) == {"Name", "Value"}:
            return flat({of["Name"]: of["Value"] for of in value}, path)
        value = value[0] if len(value) == 1 else {str(index): of for index, of in enumerate(value)}
    if not isinstance(value, dict):
        return {path: value}
    return {key: of for name, part in value.items() for key, of in flat(part, f"{path}.{name}".strip(".")).items()}


def main():
    with open(os.path.join(ROOT, "template.yaml"), encoding="utf-8") as file:
        template = yaml_parse(file.read())
    # Unrolling takes the mappings out, and the list of sources.
    sources, alarms = list(template["Mappings"]["Source"]), {f"{name}Alarm" for name in template["Mappings"]["Alarms"]}
    declared = dict(template["Parameters"])
    stack, module = Stack(expand(template, ",".join(sources))), Module(os.path.join(ROOT, "deploy", "terraform"))
    same("sources", sources, list(module.locals["sources"]))

    for source in sources:
        rights = stack.rights(f"{source}Role") | stack.rights("FunctionPolicy")
        # Terraform's name of a log group has no asterisk behind it.
        rights["Log"]["resources"] = [of + ":*" for of in rights["Log"]["resources"]]
        same(f"{source}: rights", rights, module.rights("aws_iam_policy_document.function", source))
        attached = module.block("aws_iam_role_policy_attachment.network", source)
        when = attached["for_each"].split(" ? ")[0][2:]
        policies = f'${{compact([aws_iam_policy_document.function, {when} ? "{attached["policy_arn"]}" : null])}}'
        same(f"{source}: rights in a network", stack.properties(f"{source}Role")["ManagedPolicyArns"], policies)
    for key, block, renamed, own in PAIRS:
        for source in sources if "{}" in key else [""]:
            row = module.locals["sources"].get(source)
            pair(key.format(source), stack, module.block(block, source, row), renamed, own, module)
    made = [module.block("aws_cloudwatch_metric_alarm.tenant", name, row) for name, row in module.locals["alarms"].items()]
    by_name = {of["alarm_name"]: of for of in made}
    paired = {key.format(source) for key, *_ in PAIRS for source in sources} | alarms
    paired |= {f"{source}Scheduled" for source in sources} | {"FunctionPolicy"}
    same("resources", {key for key in stack.template["Resources"] if not re.fullmatch(LEFT_RESOURCES, key)}, paired)
    same("names of alarms", {stack.properties(key)["AlarmName"] for key in alarms}, set(by_name))
    for key in alarms:
        pair(key, stack, by_name.get(stack.properties(key)["AlarmName"], {}), {}, "for_each", module)

    rights = module.rights("aws_iam_policy_document.scheduler")
    same("what the scheduler starts", ["lambda:InvokeFunction"], rights.pop("Start")["actions"])
    same("scheduler's rights", stack.rights("SchedulerRole"), rights)
    for name, assumed, one in ("function", "is_lambda", "[each.key]"), ("scheduler", "is_scheduler", ""):
        role, policy = module.blocks[f"aws_iam_role.{name}"], module.blocks[f"aws_iam_role_policy.{name}"]
        document = "${data.aws_iam_policy_document."
        same(f"{name}: has its rights", [f"{document}{name}{one}.json}}", f"${{aws_iam_role.{name}{one}.id}}"],
             [policy["policy"], policy["role"]])  # fmt: skip
        same(f"{name}: is whose it is", f"{document}{assumed}.json}}", role["assume_role_policy"])
    for role, block in {"SchedulerRole": "is_scheduler", "auditRole": "is_lambda"}.items():
        [theirs] = stack.properties(role)["AssumeRolePolicyDocument"]["Statement"]
        [ours] = module.block(f"aws_iam_policy_document.{block}")["statement"]
        same(f"{role}: whose", theirs["Principal"]["Service"], ours["principals"][0]["identifiers"][0])
        theirs = right([], [], theirs.get("Condition", {}))
        same(f"{role}: when", theirs, right([], [], conditions(ours)))
    parameters(declared, module.variables)

    for line in wrong:
        print(line)
    print(f"{len(wrong)} differences" if wrong else f"terraform: {len(sources)} sources as in the template")
    return 1 if wrong else 0


def pair(key, stack, block, renamed, own, module):
    """The properties of a resource and the arguments of a block, leaf by leaf."""
    theirs, ours = {}, {}
    for path, value in flat(stack.properties(key)).items():
        path = ".".join(snake(part) for part in path.split("."))
        for old, new in renamed.items():
            if re.fullmatch(old, path):
                path = re.sub(old, new, path) if new else None
                break
        if path:
            theirs[path] = value
    for dynamic in block.pop("dynamic", []):
        [(name, of)] = dynamic.items()
        block[name] = of["content"][0] | {"if": of["for_each"][2:].split(" ? ")[0]}
    if "environment" in block:
        block["environment"] = {"variables": module.resolved(module.locals["environment"])}
    for path, value in flat(block).items():
        path = ".".join(snake(part) for part in path.split("."))
        if path not in own.split():
            ours[path] = value
    for path in sorted(theirs.keys() | ours.keys()):
        same(f"{key} {path}", theirs.get(path), ours.get(path))


def parameters(template, variables):
    """Each parameter is a variable with the same default and the same values allowed."""
    same("parameters", {snake(name) for name in template.keys() - LEFT}, variables.keys() - OWN)
    for name in template.keys() - LEFT:
        theirs, ours, name = template[name], variables.get(snake(name), {}), f"var.{snake(name)}"
        default = theirs.get("Default")
        if theirs["Type"] == "CommaDelimitedList":
            default = [of for of in default.split(",") if of]
        same(f"{name}: default", default, ours.get("default"))
        allowed = None
        if "AllowedPattern" in theirs:
            allowed = f"can(regex({json.dumps('^' + theirs['AllowedPattern'] + '$')}, {name}))"
        if "AllowedValues" in theirs:
            allowed = f"contains({json.dumps(theirs['AllowedValues'])}, {name})"
        if "MinValue" in theirs:
            allowed = f"{name} >= {theirs['MinValue']}"
        if "MaxValue" in theirs:
            allowed += f" && {name} <= {theirs['MaxValue']}"
        checked = ours.get("validation", [{}])[0].get("condition")
        same(f"{name}: may be", allowed and f"${{{allowed}}}", checked)


if __name__ == "__main__":
    sys.exit(main())
