"""What the programs are made of: a CycloneDX list of the crates, and their licences in one text.

    python3 deploy/release/parts.py <out>

Only what is linked in is named: no tests, no build scripts. Wants cargo, and the crates' sources, which a build has fetched.
"""

import json
import os
import re
import subprocess
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ["-p", "functions", "-p", "mimecast-devo"]
# Both architectures have the same crates.
TARGET = "x86_64-unknown-linux-gnu"
TEXTS = re.compile(r"(licen[cs]e|copying|notice|copyright|unlicense)", re.IGNORECASE)


def asked(*words):
    return subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def linked():
    """The packages, by name and version, that the programs are linked of."""
    tree = asked("cargo", "tree", "--locked", *PROGRAMS, "--edges", "normal", "--target", TARGET, "--prefix", "none", "--format", "{p}")
    wanted = {tuple(line.split()[:2]) for line in tree.splitlines() if line.strip()}
    metadata = json.loads(asked("cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", TARGET))
    found = {of["id"]: of for of in metadata["packages"] if (of["name"], "v" + of["version"]) in wanted}
    edges = {node["id"]: [of["pkg"] for of in node["deps"] if any(kind["kind"] is None for kind in of["dep_kinds"])]
             for node in metadata["resolve"]["nodes"]}
    return found, {id: [to for to in edges[id] if to in found] for id in found}


def address(package):
    return f"pkg:cargo/{package['name']}@{package['version']}"


def licence(package):
    # The old way to write OR.
    return re.sub(r" ?/ ?", " OR ", package["license"] or "")


def checksums():
    lock = (ROOT / "Cargo.lock").read_text()
    return {(name, version): sum for name, version, sum in
            re.findall(r'name = "(.*)"\nversion = "(.*)"\nsource = .*\nchecksum = "(.*)"', lock)}


def component(package, sums):
    checksum = sums.get((package["name"], package["version"]))
    return {"type": "library", "bom-ref": address(package), "name": package["name"], "version": package["version"],
            "purl": address(package),
            **({"licenses": [{"expression": licence(package)}]} if package["license"] else {}),
            **({"hashes": [{"alg": "SHA-256", "content": checksum}]} if checksum else {})}


def bill(packages, edges, version, date):
    """CycloneDX 1.5."""
    sums, ordered = checksums(), sorted(packages.values(), key=address)
    components = [component(package, sums) for package in ordered]
    rust = asked("rustc", "--version").split()[1]
    components.append({"type": "library", "bom-ref": f"rust-std@{rust}", "name": "rust-std", "version": rust,
                       "licenses": [{"expression": "MIT OR Apache-2.0"}]})
    product = {"type": "application", "bom-ref": f"mimecast-to-devo@{version}", "name": "mimecast-to-devo", "version": version,
               "licenses": [{"license": {"id": "Apache-2.0"}}]}
    dependencies = [{"ref": address(of), "dependsOn": sorted({address(packages[to]) for to in edges[of["id"]]})} for of in ordered]
    roots = [address(of) for of in ordered if of["name"] in PROGRAMS]
    dependencies.append({"ref": product["bom-ref"], "dependsOn": [*roots, f"rust-std@{rust}"]})
    # By what is in it, so that the same parts have the same number.
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps([product, components]))
    return {"bomFormat": "CycloneDX", "specVersion": "1.5", "serialNumber": f"urn:uuid:{serial}", "version": 1,
            "metadata": {"timestamp": date.strftime("%Y-%m-%dT%H:%M:%SZ"), "component": product},
            "components": components, "dependencies": dependencies}


def licences(packages):
    """Each text once, after the names of those that are under it."""
    texts, none = {}, []
    for package in sorted(packages.values(), key=address):
        name = f"{package['name']} {package['version']} ({licence(package)})"
        folder = Path(package["manifest_path"]).parent
        files = sorted(of for of in folder.iterdir() if of.is_file() and TEXTS.match(of.name))
        for file in files:
            texts.setdefault(file.read_text(errors="replace").strip(), []).append(name)
        if not files:
            none.append(name)
    parts = ["The programs contain these works of others, each under the terms that follow its name.\n"
             "Rust's standard library is in them too, under MIT OR Apache-2.0.\n"]
    if none:
        parts.append("These come without a text of their own, under the licence that stands beside them:\n\n" + "\n".join(none) + "\n")
    parts += [f"{chr(10).join(dict.fromkeys(names))}\n\n{text}\n" for text, names in texts.items()]
    return f"\n{'-' * 80}\n\n".join(parts)


def main(out):
    packages, edges = linked()
    version = next(of["version"] for of in packages.values() if of["name"] == "mimecast-devo")
    date = datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), UTC)
    Path(out, "sbom.cdx.json").write_text(json.dumps(bill(packages, edges, version, date), indent=1) + "\n")
    others = {id: of for id, of in packages.items() if of["source"]}
    Path(out, "THIRD-PARTY-LICENSES.txt").write_text(licences(others))


main(*sys.argv[1:])
