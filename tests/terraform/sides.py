"""The two sides of the comparison: the template, its functions written as Terraform's expressions, and the module, what its locals
hold in place of their names. Texts in both are Terraform's: with `${}` around what is not known before.
"""

import json
import os
import re

import hcl2

# What `Ref` and `Fn::GetAtt` are in the module. For a parameter it is its variable.
NAMES = {
    "AWS::StackName": "var.name",
    "AWS::NoValue": "null",
    "AWS::Partition": "data.aws_partition.current.partition",
    "AWS::Region": "data.aws_region.current.name",
    "AWS::AccountId": "data.aws_caller_identity.current.account_id",
    "CheckpointTable": "aws_dynamodb_table.checkpoints[0].name",
    "FailedRuns.Arn": "aws_sqs_queue.failed_runs.arn",
    "FailedRuns.QueueName": "aws_sqs_queue.failed_runs.name",
    "ScheduleGroup": "aws_scheduler_schedule_group.sources.name",
    "ScheduleGroup.Arn": "aws_scheduler_schedule_group.sources.arn",
    "SchedulerRole.Arn": "aws_iam_role.scheduler.arn",
    "FunctionPolicy": "aws_iam_policy_document.function",
}
OF_SOURCE = {
    "Function": "aws_lambda_function.source[each.key]",
    "Role": "aws_iam_role.function[each.key]",
    "Logs": "aws_cloudwatch_log_group.function[each.key]",
}

def snake(name):
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


class Stack:
    """The template, its functions written as Terraform's expressions."""

    def __init__(self, template):
        self.template = template

    def properties(self, key):
        return self.said(self.template["Resources"][key]["Properties"])

    def said(self, value):
        """A value; a text with `${}` where it is not known before."""
        if isinstance(value, list):
            return listed([self.said(of) for of in value])
        if not isinstance(value, dict):
            return value
        [function, of] = next(iter(value.items())) if len(value) == 1 else ("", None)
        if function == "Ref":
            return self.name(of)
        if function == "Fn::GetAtt":
            return self.name(".".join(of))
        if function == "Fn::Sub":
            text, known = (of, {}) if isinstance(of, str) else of
            known = {name: self.said(part) for name, part in known.items()}
            return re.sub(r"\$\{([^}]+)\}", lambda match: known.get(match[1]) or self.name(match[1]), text)
        if function == "Fn::If":
            condition, then, other = of
            if isinstance(then, dict) and not set(then) & {"Ref", "Fn::Sub", "Fn::If", "Fn::GetAtt"}:
                return self.said(then) | {"If": self.condition({"Condition": condition})}
            then, other = expression(self.said(then)), expression(self.said(other))
            return f"${{{self.condition({'Condition': condition})} ? {then} : {other}}}"
        return {name: self.said(part) for name, part in value.items()}

    def name(self, of):
        if of in NAMES:
            return f"${{{NAMES[of]}}}"
        if of in self.template["Parameters"]:
            return f"${{var.{snake(of)}}}"
        source, kind, attribute = re.fullmatch(r"([a-z]+)(Function|Role|Logs)(\.Arn)?", of).groups()
        whole = OF_SOURCE[kind].replace("each.key", source)
        return f"${{{whole}.{'arn' if attribute else 'name'}}}"

    def condition(self, of, equal="=="):
        if "Condition" in of:
            return self.condition(self.template["Conditions"][of["Condition"]])
        if "Fn::Not" in of:
            return self.condition(of["Fn::Not"][0], "!=")
        value, against = of["Fn::Equals"]
        if "Fn::Select" in value:
            return "length(var.subnet_ids) > 0"
        return f"{expression(self.said(value))} {equal} {json.dumps(against)}"

    def rights(self, key):
        document = self.template["Resources"][key]["Properties"]
        [document] = [of["PolicyDocument"] for of in document.get("Policies", [document])]
        return {of["Sid"]: right(listed(of["Action"]), listed(of["Resource"]), of.get("Condition", {}), of.get("If"))
                for of in self.said(document["Statement"])}  # fmt: skip


class Module:
    """The module, what its locals hold in place of their names."""

    def __init__(self, folder):
        self.locals, self.blocks, self.variables = {}, {}, {}
        for name in sorted(os.listdir(folder)):
            if name.endswith(".tf"):
                with open(os.path.join(folder, name), encoding="utf-8") as file:
                    parsed = plain(hcl2.load(file))
                self.locals |= {key: of for block in parsed.get("locals", []) for key, of in block.items()}
                self.variables |= {key: of for block in parsed.get("variable", []) for key, of in block.items()}
                for block in parsed.get("resource", []) + parsed.get("data", []):
                    self.blocks |= {f"{of}.{key}": body for of, named in block.items() for key, body in named.items()}

    def block(self, name, source="", row=None):
        return self.resolved(self.blocks[name], source, row or {})

    def resolved(self, value, source="", row=None):
        if isinstance(value, list):
            return [self.resolved(of, source, row) for of in value]
        if isinstance(value, dict):
            return {key: self.resolved(of, source, row) for key, of in value.items()}
        if not isinstance(value, str):
            return value
        for column, of in (row or {}).items():
            if value == f"${{each.value.{column}}}":
                return of
            value = value.replace(f"${{each.value.{column}}}", str(of))
            value = re.sub(rf"each\.value\.{column}\b", json.dumps(of), value)
        value = value.replace("${each.key}", source).replace("each.key", source)
        known = re.compile(r"\$\{local\.(namespace|table|account|secret|secrets|use_key|boundary|told)\}")
        while known.search(value):
            value = known.sub(lambda match: self.locals[match[1]], value)
        return value

    def rights(self, name, source=""):
        block = self.block(name, source)
        found = {of["sid"]: right(of["actions"], of["resources"], conditions(of)) for of in block["statement"]}
        for dynamic in block.get("dynamic", []):
            [of], when = dynamic["statement"]["content"], dynamic["statement"]["for_each"]
            if_, each = re.fullmatch(r"\$\{(.*) \? \[(.*)\] : \[\]\}", when).groups()
            resources = [of.replace("statement.value", each) for of in of["resources"]]
            found[of["sid"]] = right(of["actions"], resources, conditions(of), if_)
        return found


def plain(value):
    """What the parser gives, without its marks, and texts without their quotes."""
    if isinstance(value, dict):
        return {plain(key): plain(of) for key, of in value.items() if key not in ("__is_block__", "__comments__")}
    if isinstance(value, list):
        return [plain(of) for of in value]
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if isinstance(value, str) and value.startswith('"') else value


def expression(value):
    """A value inside an expression: a nested choice in brackets, a text in quotes."""
    if not isinstance(value, str):
        return json.dumps(value)
    depths, depth = [], 0
    for character in value:
        depth += (character == "{") - (character == "}")
        depths.append(depth)
    if not value.startswith("${") or 0 in depths[1:-1]:
        return f'"{value}"'
    return f"({value[2:-1]})" if " ? " in value else value[2:-1]


def listed(value):
    """A list as it is, and as Terraform makes one of which parts may be missing."""
    value = value if isinstance(value, list) else [value]
    if not any(" : null}" in str(of) for of in value):
        return value
    parts = ", ".join(expression(of).strip("()") for of in value)
    return "${compact([" + re.sub(r'(var\.\w+) != "" \? \1 : null', r"\1", parts) + "])}"


def conditions(block):
    return {(of["test"], of["variable"]): of["values"] for of in block.get("condition", [])}


def right(actions, resources, where, if_=None):
    if where and not isinstance(next(iter(where)), tuple):
        where = {(test, key): listed(of) for test, keys in where.items() for key, of in keys.items()}
    return {"actions": sorted(actions), "resources": listed(resources), "conditions": where, "if": if_}
