"""Least privilege: the functions' AWS calls as a proxy has seen them, compared with what their roles allow."""

import hashlib
import json
import re
from dataclasses import dataclass, replace

from proxy import Proxy

# Declared, yet in no recording: these calls are made by the Lambda service with the function's role.
BY_LAMBDA = {
    "logs:CreateLogStream": "Lambda opens the log stream of each environment",
    "logs:PutLogEvents": "Lambda writes what a function prints",
    "sqs:SendMessage": "Lambda sends the record of a failed run to the on-failure queue",
    "xray:PutTraceSegments": "Lambda sends the trace of each invocation",
    "xray:PutTelemetryRecords": "Lambda sends the trace of each invocation",
}
# A transaction is no action of its own: each item in it is one of these.
TRANSACTION = {"Put": "PutItem", "Update": "UpdateItem", "Delete": "DeleteItem", "ConditionCheck": "ConditionCheckItem"}


@dataclass(frozen=True)
class Call:
    """One use of an IAM action."""

    key: str  # the access key that signed
    action: str
    resource: str
    leading_keys: tuple = ()  # the values of DynamoDB's hash key


class Recorder(Proxy):
    """In front of AWS: keeps what it is asked for, and where it says that a role does not allow it."""

    def __init__(self, aws, account):
        self.account = account
        self.calls, self.refused = set(), []
        super().__init__(aws)

    def answered(self, request, body, answer):
        self.calls.update(calls_of(request.headers, body, answer, self.account))
        if b"AccessDenied" in answer:
            self.refused.append(answer.decode())
        return answer


def calls_of(headers, body, answer, account):
    """What a request needs to be allowed."""
    credential = re.search(r"Credential=([^,]+)", headers.get("Authorization", ""))
    key, _, region, service, _ = credential[1].split("/") if credential else ["nobody", "", "", "unsigned", ""]
    name = headers.get("X-Amz-Target", "").rpartition(".")[2]
    action = f"{service}:{name}"
    request = json.loads(body) if name else {}
    if service == "dynamodb":
        items = [(action, request)]
        if name == "TransactWriteItems":
            items = [(f"{service}:{TRANSACTION[kind]}", of) for item in request["TransactItems"] for kind, of in item.items()]
        table = f"arn:aws:dynamodb:{region}:{account}:table"
        return [Call(key, action, f"{table}/{of['TableName']}", hash_keys(of)) for action, of in items]
    if service == "secretsmanager":
        # The answer has the whole ARN, which ends in six random characters.
        arn = json.loads(answer).get("ARN", f"arn:aws:secretsmanager:{region}:{account}:secret:{request['SecretId']}-??????")
        return [Call(key, action, arn)]
    return [Call(key, action, "*")]


def hash_keys(request):
    """The values of `pk` that a request names: of an item, of a key, or in a query's condition."""
    for of in ("Item", "Key"):
        if of in request:
            return (request[of]["pk"]["S"],)
    named = re.search(r"\bpk\s*=\s*(:\w+)", request.get("KeyConditionExpression", ""))
    return (request["ExpressionAttributeValues"][named[1]]["S"],) if named else ()


def access_key(function):
    """The access key that MiniStack (with AUTH=true) gives to a function."""
    digest = hashlib.sha256(f"{function['FunctionArn']}:{function['Role']}".encode()).hexdigest()
    return f"ASIA{digest[:16].upper()}"


def statements(iam, role):
    """All statements of a role's policies, as deployed."""
    documents = [iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
                 for name in iam.list_role_policies(RoleName=role)["PolicyNames"]]
    for policy in iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]:
        version = iam.get_policy(PolicyArn=policy["PolicyArn"])["Policy"]["DefaultVersionId"]
        of = iam.get_policy_version(PolicyArn=policy["PolicyArn"], VersionId=version)["PolicyVersion"]["Document"]
        documents.append(of)
    return [statement for document in documents for statement in listed(document["Statement"])]


def listed(value):
    return value if isinstance(value, list) else [value]


def like(pattern, value):
    """IAM's wildcards."""
    regex = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(regex, value, re.DOTALL) is not None


def concerns(statement, call):
    """Whether a statement speaks of this call."""
    return (any(like(action.lower(), call.action.lower()) for action in listed(statement["Action"]))
            and any(like(resource, call.resource) for resource in listed(statement["Resource"]))
            and all(holds(operator, key, listed(wanted), call)
                    for operator, keys in statement.get("Condition", {}).items() for key, wanted in keys.items()))


def holds(operator, key, wanted, call):
    """Whether a condition holds. What the templates do not use is an error, so that it is not overlooked."""
    if key != "dynamodb:LeadingKeys":
        raise NotImplementedError(f"condition {operator} on {key}")
    if operator == "Null":
        return (not call.leading_keys) == (wanted[0] == "true")
    if operator == "ForAllValues:StringLike":
        return all(any(like(pattern, value) for pattern in wanted) for value in call.leading_keys)
    raise NotImplementedError(f"condition {operator} on {key}")


def allowed(policy, call):
    concerned = {statement["Effect"] for statement in policy if concerns(statement, call)}
    return concerned == {"Allow"}


@dataclass(frozen=True)
class Role:
    key: str
    statements: list


def compare(roles, calls):
    """Every call is allowed, every action allowed is used; what that was, in words."""
    owners = {role.key: name for name, role in roles.items()}
    for call in calls:
        refuse(call.key in owners, f"a call by nobody known: {call}")
        refuse(allowed(roles[owners[call.key]].statements, call), f"not allowed to {owners[call.key]}: {call}")
    yield f"{len(calls)} kinds of calls by {len({call.key for call in calls})} functions, each allowed by its function's role"
    probe(roles, calls)
    yield "a key, table, secret or action that is not a function's own would have been found"
    declared, used = set(), set()
    for name, role in roles.items():
        for statement, action in ((of, action) for of in role.statements for action in listed(of["Action"])):
            declared.add((name, action))
            if any(call.key == role.key and call.action == action and concerns(statement, call) for call in calls):
                used.add((name, action))
    by_lambda = {(name, action) for name, action in declared - used if action in BY_LAMBDA}
    unused = declared - used - by_lambda
    refuse(not unused, f"declared and not used: {unused}")
    yield f"{len(declared)} declared actions: {len(used)} used, {len(by_lambda)} for Lambda itself"


def probe(roles, calls):
    """Calls that went a little too far are not allowed: what finds nothing can find something."""
    for role in roles.values():
        for call in (call for call in calls if call.key == role.key):
            wrong = [replace(call, resource=call.resource + "x"), replace(call, action="dynamodb:DeleteItem"),
                     replace(call, action=call.action + "s")]
            if call.leading_keys:
                wrong += [replace(call, leading_keys=keys) for keys in (("default#other",), (*call.leading_keys, "x#y"), ())]
            for call in wrong:
                refuse(not allowed(role.statements, call), f"the comparison lets pass: {call}")


def refuse(holds, otherwise):
    if not holds:
        raise SystemExit(f"rehearsal failed: {otherwise}")
