"""Prints template.yaml as a release has it: the functions' programs are zips in a bucket that is named when it is deployed, so neither
Rust nor SAM is needed.

    python3 deploy/release/template.py <prefix>

The prefix stands in front of the zips' names in the bucket unless `CodePrefix` says otherwise. It has to be another one for other
programs: CloudFormation compares names, not what is in the files, and would leave the old programs where they are.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

PARAMETERS = """\
Parameters:
  CodeBucket:
    Type: String
    Description: The bucket in this region that holds the released zips; the command upload puts them there.
  CodePrefix:
    Type: String
    Default: {prefix}
    AllowedPattern: '([A-Za-z0-9/_.-]+/)?'
    Description: What stands in front of the zips' names in the bucket. Another release has another one.
"""
# Each line, and what stands for it in a release.
CHANGES = {
    "#     sam build && sam deploy --guided\n": "#     ./upload <bucket>       says how to deploy it\n",
    "        Parameters: [DevoUrl, DevoTag, DevoSecretName]\n": "        Parameters: [CodeBucket, CodePrefix, DevoUrl, DevoTag, DevoSecretName]\n",
    "Parameters:\n": PARAMETERS,
    "    Description: Of the functions; sam build has to be told the same one.\n": "    Description: Of the functions.\n",
    "        Metadata: {BuildMethod: rust-cargolambda, BuildProperties: {Binary: '${Name}'}}\n": "",
    "          # This directory. Without the name in it, SAM would give the first function's program to all of them.\n": "",
    "          CodeUri: ${Name}/..\n":
        "          CodeUri: {Bucket: !Ref CodeBucket, Key: !Sub '${CodePrefix}${Name}-${Architecture}.zip'}\n",
    "      DefinitionUri: backfill.asl.json\n":
        "      DefinitionUri: {Bucket: !Ref CodeBucket, Key: !Sub '${CodePrefix}backfill.asl.json'}\n",
}


def released(text, prefix):
    lines = text.splitlines(keepends=True)
    for line, other in CHANGES.items():
        # A line that has been reworded would otherwise be left as it is, and the release would need SAM after all.
        if lines.count(line) != 1:
            sys.exit(f"template.yaml has this line {lines.count(line)} times instead of once: {line}")
        lines[lines.index(line)] = other.replace("{prefix}", prefix)
    return "".join(lines)


if __name__ == "__main__":
    print(released((ROOT / "template.yaml").read_text(), *sys.argv[1:]), end="")
