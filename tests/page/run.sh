#!/usr/bin/env bash
# The page of `collect` in a real browser. CHROMIUM: one, else chromium. `run.sh docs/page.png` also leaves a picture of it.
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo build -q --locked -p mimecast-devo
export PROGRAM=$PWD/target/debug/mimecast-devo
export SCREENSHOT=${1:+$(realpath "$1")}
"$PROGRAM" simulate --check -- python3 tests/page/look.py
