"""Makes Lambda's zips: `<out>/<function>-<architecture>.zip` of each `<programs>/<function>/bootstrap`.

    python3 deploy/release/zips.py <programs> <architecture> <out>

The same programs give the same bytes on any machine: names, modes and dates are fixed.
"""

import sys
import zipfile
from pathlib import Path


def main(programs, architecture, out):
    for program in sorted(Path(programs).glob("*/bootstrap")):
        # The first date that a zip knows.
        entry = zipfile.ZipInfo("bootstrap", (1980, 1, 1, 0, 0, 0))
        # A zip tells modes only of files from Unix (3); without them Lambda could not start it.
        entry.create_system, entry.external_attr = 3, 0o100755 << 16
        with zipfile.ZipFile(Path(out, f"{program.parent.name}-{architecture}.zip"), "w") as zip:
            zip.writestr(entry, program.read_bytes(), zipfile.ZIP_DEFLATED, 9)


main(*sys.argv[1:])
