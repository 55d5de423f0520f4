"""What a change of a template changes in what it makes: resources by type, those that come and go, and each property that differs.

    python tests/rehearsal/resources.py <(git show <commit>:template.yaml) template.yaml

Both are compared as CloudFormation gets them, without loops and SAM. Differences that all sources have are told once. Logical ids that
differ in their first letter's case count as the same. Wants the Python of SAM, as deploy/expand.py does.
"""

import json
import re
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "deploy"))
from expand import expand, plain, yaml_parse

ANY_SOURCE = ("audit|attachments|impersonation|url|search|view|threatfeed|messageholdlist|messageholdsummary|dashboard|siemci|siem|dlp|"
              "release|rejections")


def resources(path):
    """What a template makes: its resources by logical id."""
    text = Path(path).read_text()
    # SAM takes addresses alone, and nothing is packaged here.
    text = re.sub(r"((Code|Definition)Uri): .*", r"\1: s3://bucket/key", text)
    template = yaml_parse(text)
    template = plain(expand(template) if "Mappings" in template else template)
    return {key[0].lower() + key[1:]: of for key, of in template["Resources"].items()}


def facts(value, path=""):
    """Each leaf of a resource, with its path; references in one spelling."""
    if isinstance(value, dict) and set(value) == {"Fn::Sub"} and isinstance(value["Fn::Sub"], str):
        return {path: re.sub(r"\$\{(?!AWS)([A-Z])(\w+)(?=(\.\w+)?\})", lambda id: "${" + id[1].lower() + id[2], value["Fn::Sub"])}
    if isinstance(value, dict) and set(value) in ({"Ref"}, {"Fn::GetAtt"}):
        words = ".".join(of if isinstance(of, list) else [of]) if (of := next(iter(value.values()))) else ""
        return {path: words if words.startswith("AWS::") else f"-> {words[0].lower()}{words[1:]}"}
    if isinstance(value, dict) and not any(key.startswith("Fn::") for key in value):
        return {name: leaf for key, of in value.items() for name, leaf in facts(of, f"{path}/{key}").items()}
    return {path: json.dumps(value) if isinstance(value, (dict, list)) else value}


def any_source(text):
    """A text with the name of a source left out, so that what is said of all of them is said once."""
    text = re.sub(ANY_SOURCE, "<source>", str(text), flags=re.IGNORECASE)
    text = re.sub(r"(\w+\()[\d/]+", r"\1<minutes>", text)
    return text if len(text) < 200 else f"{text[:90]} ... ({len(text)} characters)"


def main(old, new):
    old, new = resources(old), resources(new)
    print(f"{len(old)} resources before, {len(new)} after")
    before, after = (Counter(of["Type"] for of in side.values()) for side in (old, new))
    for kind in sorted(before | after):
        print(f"{before[kind]:4} {after[kind]:4}  {kind}{'' if before[kind] == after[kind] else '   <--'}")
    for word, some, others in ("gone", old, new), ("new", new, old):
        for line, times in Counter(f"{some[key]['Type']} {any_source(key)}" for key in some.keys() - others.keys()).items():
            print(f"{word}: {times} x {line}")
    changes = Counter()
    for key in sorted(old.keys() & new.keys()):
        was, now = facts(old[key]), facts(new[key])
        for path in sorted(was.keys() | now.keys()):
            if str(was.get(path)) != str(now.get(path)):
                changes[f"{any_source(key)}{path}: {any_source(was.get(path))} -> {any_source(now.get(path))}"] += 1
    for line, times in changes.items():
        print(f"changed: {times} x {line}")


main(*sys.argv[1:])
