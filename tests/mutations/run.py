#!/usr/bin/env python3
"""Takes each safeguard of safeguards.py away, one at a time, in a copy of this tree, and sees its test fail: tests/mutations/run.py [TEXT].

TEXT chooses those that have it in their names. The copy and what is built of it are in target/mutations. `--check` only tells whether
each safeguard and its test are still where safeguards.py says.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from safeguards import MUTATIONS

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / "target/mutations"
TREE = PLACE / "tree"


def copy():
    """The tracked files as they are now, with their times, so that cargo builds again only what has changed."""
    shutil.rmtree(TREE, ignore_errors=True)
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (TREE / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, TREE / name)
    # What was built last may have been of a change.
    for _, file, *_ in MUTATIONS:
        os.utime(TREE / file)


def test(arguments, name):
    """Whether the test passes; `None` where it was not run, with what was printed."""
    command = ["cargo", "test", "--locked", "-q", *arguments, "--", "--exact", name]
    ended = subprocess.run(command, cwd=TREE, env=os.environ | {"CARGO_TARGET_DIR": str(PLACE / "target"), "RUSTFLAGS": "-Awarnings"},
                           capture_output=True, text=True)
    printed = ended.stdout + ended.stderr
    ran = "test result: ok. 1 passed" in printed or "test result: FAILED. 0 passed; 1 failed" in printed
    return (ended.returncode == 0 if ran else None), printed


def check():
    """What is changed or renamed without its row here would be noticed only when somebody has half an hour for all of this."""
    sources = "\n".join(path.read_text() for top in ("shared", "local", "tests") for path in (ROOT / top).rglob("*.rs"))
    lost = [f"{safeguard}: {file}" for safeguard, file, old, *_ in MUTATIONS if (ROOT / file).read_text().count(old) != 1]
    lost += [f"{safeguard}: {name}" for safeguard, *_, name in MUTATIONS if f"fn {name.rsplit('::')[-1]}(" not in sources]
    if lost:
        sys.exit("\n".join(lost))


def main(text=""):
    check()
    if text == "--check":
        return
    copy()
    chosen = [mutation for mutation in MUTATIONS if text in mutation[0]]
    for arguments, name in sorted({(tuple(arguments), name) for *_, arguments, name in chosen}):
        passes, printed = test(arguments, name)
        if not passes:
            sys.exit(f"{name} has to pass before anything is changed:\n{printed[-4000:]}")
    survived = 0
    for safeguard, file, old, new, arguments, name in chosen:
        source = TREE / file
        before = source.read_text()
        source.write_text(before.replace(old, new))
        started = time.monotonic()
        passes, printed = test(arguments, name)
        source.write_text(before)
        # Newer than what was built of the change.
        os.utime(source)
        if passes is None:
            sys.exit(f"{safeguard}: not built, or not run\n{printed[-4000:]}")
        survived += passes
        verdict = "SURVIVED" if passes else "failed"
        print(f"{verdict:8}  without: {safeguard:50}  {name} ({time.monotonic() - started:.0f} s)", flush=True)
    print(f"{len(chosen)} safeguards taken away, {len(chosen) - survived} noticed")
    sys.exit(1 if survived else 0)


main(*sys.argv[1:])
