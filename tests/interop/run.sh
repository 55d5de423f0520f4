#!/usr/bin/env bash
# The simulated Mimecast against clients that nobody here wrote. PYTHON: one with mimecast-api, authlib and requests.
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo build -q --locked -p simulator --example serve
coproc serve { target/debug/examples/serve; }
read -r said <&"${serve[0]}"
field() { "${PYTHON:-python3}" -c 'import json, sys
value = json.loads(sys.argv[1])[sys.argv[2]]
print(value if isinstance(value, str) else json.dumps(value))' "$said" "$1"; }
"${PYTHON:-python3}" tests/interop/simulator_auth.py "$(field base_url)" "$(field secret_v1)" "$(field secret_v2)"
