#!/usr/bin/env bash
# Every way into Devo against receivers that nobody here wrote, and through reset storms. On Debian, as root; about three minutes.
# --full: an optimised driver, all storms with 200,000 events, and calm runs that show what each way costs: the numbers in docs/ways.md.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The servers are unpacked, not installed: rsyslog and syslog-ng exclude each other, and nothing here should start at boot.
mkdir -p "$work/debs/partial" "$work/servers"
unpack() {
    apt-get install -qqy --reinstall --download-only --no-install-recommends \
        -o Dir::Cache::archives="$work/debs" -o APT::Sandbox::User=root "$@"
}
{
    apt-get update -q
    command -v openssl >/dev/null && python3 -c 'import ensurepip' || apt-get install -qy openssl python3-venv
    unpack rsyslog rsyslog-relp rsyslog-openssl
    unpack syslog-ng-core rsyslog-
    for package in "$work"/debs/*.deb; do dpkg -x "$package" "$work/servers"; done
    python3 -m venv "$work/venv"
    "$work/venv/bin/pip" install -q --disable-pip-version-check devo-sdk==7.0.2
} >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }

if [ "${1:-}" = --full ]; then profile=release; else profile=debug; fi
cargo build -q --locked -p devo --example send $([ $profile = debug ] || echo --release)
export DRIVER=$PWD/target/$profile/examples/send
export PYTHONDONTWRITEBYTECODE=1

run() { "$work/venv/bin/python" "tests/interop/$1.py" "${@:2}" 2>&1 | tee -a "$work/table" || failed=1; }
failed=0
run receivers "$work/servers"
run sdk
run storm "$@"
printf '\n== the ways into Devo, all in one table (%s s)\n' "$SECONDS"
cat "$work/table"
printf '%s passed, %s failed\n' "$(grep -c '^ok ' "$work/table" || true)" "$(grep -vc '^ok ' "$work/table" || true)"
exit "$failed"
