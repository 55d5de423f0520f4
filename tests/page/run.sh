#!/usr/bin/env bash
# The page of `collect`, and that of `simulate`, in a real browser. CHROMIUM: one, else chromium. `run.sh docs/page.png` also leaves a
# picture of the first.
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo build -q --locked -p mimecast-devo
export PROGRAM=$PWD/target/debug/mimecast-devo
export SCREENSHOT=${1:+$(realpath "$1")}
address=127.0.0.1:$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
export SIMULATED_PAGE=http://$address
"$PROGRAM" simulate --check --page "$address" -- python3 tests/page/look.py
