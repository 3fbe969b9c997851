#!/usr/bin/env bash
# Builds everything and runs every test program. The last line is "N passed, N failed, N skipped", added up from what the
# programs report; the exit code is 0 only when nothing failed and every program reported.
# Usage: ./test.sh [NAME ...]   NAME: Tensors Kernels Autograd Transformer Lora Cli (default: all)
set -u
cd "$(dirname "$0")" || exit 1
names=("$@")
[ ${#names[@]} -gt 0 ] || names=(Tensors Kernels Autograd Transformer Lora Cli)

dotnet build Engine.sln -c Release -v q -clp:NoSummary -nodeReuse:false || { echo "the build failed"; exit 1; }

passed=0 failed=0 skipped=0 broken=0
for name in "${names[@]}"; do
    program="tests/$name/bin/Release/net10.0/Engine.$name.Tests"
    log=$(mktemp)
    "$program" -noColor | tee "$log"
    code=${PIPESTATUS[0]}
    summary=$(grep -E "Engine\.$name\.Tests +Total: [0-9]+" "$log" | tail -n 1)
    rm -f "$log"
    number() { sed -nE "s/.*$1: ([0-9]+).*/\1/p" <<<"$summary"; }
    total=$(number Total) errors=$(number Errors) fail=$(number Failed) skip=$(number Skipped)
    if [ -z "$total" ] || [ "$total" -eq 0 ]; then
        echo "$program reported no tests (exit code $code)"
        broken=$((broken + 1))
        continue
    fi

    bad=$((errors + fail))
    # A program that ends badly without a failed test (a crash after the summary) still counts as a failure.
    [ "$code" -ne 0 ] && [ "$bad" -eq 0 ] && bad=1
    failed=$((failed + bad))
    skipped=$((skipped + skip))
    passed=$((passed + total - errors - fail - skip))
done

echo "$passed passed, $((failed + broken)) failed, $skipped skipped"
[ $((failed + broken)) -eq 0 ] && [ "$passed" -gt 0 ]
