"""Prints a template with its loops unrolled, as JSON; with `--plain` also without SAM's resources, for those who may not use
transforms, as StackSets with service-managed permissions may not:

    sam build && sam package --s3-bucket <bucket> --output-template-file packaged.yaml
    python deploy/expand.py --plain packaged.yaml >plain.json

The sources that are collected are then fixed, by default those of the template: `--sources audit,url`. All other parameters stay.
Wants `pip install aws-sam-translator`, which is also in the Python of SAM.
"""

import argparse
import json
import logging
import os
import sys

from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

LOOP = "Fn::ForEach::"


def expand(template, sources=None):
    """The template as AWS::LanguageExtensions would make it."""
    names = template["Parameters"].pop("Sources")["Default"]
    template = replaced(template, "Sources", [name.strip() for name in (sources or names).split(",")])
    for group in template["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]:
        group["Parameters"] = [name for name in group["Parameters"] if name != "Sources"]
    maps = template.pop("Mappings")
    for section in ("Resources", "Outputs"):
        template[section] = looked_up(unrolled(template.get(section, {})), maps)
    others = [name for name in listed(template.pop("Transform")) if name != "AWS::LanguageExtensions"]
    return template | ({"Transform": others} if others else {})


def unrolled(section):
    """Each loop of a section as what it makes."""
    made = {}
    for key, value in section.items():
        if not key.startswith(LOOP):
            made[key] = value
            continue
        variable, names, body = value
        for name in names:
            made |= {key.replace(f"${{{variable}}}", name): replaced(of, variable, name) for key, of in body.items()}
    return made


def replaced(value, variable, by):
    """`value` with a loop's variable replaced where AWS does so: in `Ref` and `Fn::Sub`. In CodeUri and Binary it is for SAM."""
    if isinstance(value, list):
        return [replaced(of, variable, by) for of in value]
    if not isinstance(value, dict):
        return value
    if value == {"Ref": variable}:
        return by
    value = {key: replaced(of, variable, by) for key, of in value.items()}
    if set(value) == {"Fn::Sub"} and isinstance(by, str):
        text, *variables = listed(value["Fn::Sub"])
        text = text.replace(f"${{{variable}}}", by)
        return substituted(text, *variables)
    return value


def substituted(text, variables=()):
    """`Fn::Sub`, or the text where nothing in it is left to substitute."""
    if variables:
        return {"Fn::Sub": [text, variables]}
    return {"Fn::Sub": text} if "${" in text else text


def listed(value):
    return value if isinstance(value, list) else [value]


def looked_up(value, maps):
    """`value` with what stands in the mappings, and texts that have become plain by that as texts."""
    if isinstance(value, list):
        return [looked_up(of, maps) for of in value]
    if not isinstance(value, dict):
        return value
    value = {key: looked_up(of, maps) for key, of in value.items()}
    if set(value) == {"Fn::FindInMap"}:
        of, row, column = value["Fn::FindInMap"]
        return maps[of][row][column]
    if set(value) == {"Fn::Sub"} and isinstance(value["Fn::Sub"], list):
        text, variables = value["Fn::Sub"]
        for name in [name for name, of in variables.items() if isinstance(of, str)]:
            text = text.replace(f"${{{name}}}", variables.pop(name))
        return substituted(text, variables)
    return value


def plain(template):
    """The template with CloudFormation's resources instead of SAM's."""
    logging.disable()
    os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
    return transform(template, {}, None)


def main():
    parser = argparse.ArgumentParser(description="Prints a template with its loops unrolled, as JSON.")
    parser.add_argument("template")
    parser.add_argument("--plain", action="store_true", help="without SAM's resources, too")
    parser.add_argument("--sources", help="what is collected, with commas")
    asked = parser.parse_args()
    with open(asked.template, encoding="utf-8") as file:
        template = expand(yaml_parse(file.read()), asked.sources)
    json.dump(plain(template) if asked.plain else template, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
