#!/usr/bin/env bash
# Builds everything and runs every test program. The last line is "N passed, N failed, N skipped", added up from what the
# programs report; the exit code is 0 only when nothing failed and every program reported.
# Usage: ./test.sh [--device cuda] [--ptx] [--no-build] [NAME ...]
#   NAME           Tensors Kernels Autograd Transformer Lora Cli (default: all)
#   --device cuda  the tests that touch a device run on the GPU, the others are left out; without a GPU the run fails
#   --ptx          kernels come from the portable images, which the driver compiles, instead of the native ones
#   --no-build     runs what was built before
# ENGINE_TEST_PROGRAMS names a folder that all test programs were published to: they run instead of the build's, for a
# machine with a checkout and no SDK (dotnet publish tests/Kernels -c Release -o FOLDER, and so on).
set -u
cd "$(dirname "$0")" || exit 1
device=cpu build=1 names=() options=(-noColor) programs=${ENGINE_TEST_PROGRAMS:-}
while [ $# -gt 0 ]; do
    case "$1" in
        --device) device=${2:-} && shift ;;
        --ptx) export ENGINE_KERNEL_TARGET=ptx ;;
        --no-build) build=0 ;;
        -*) sed -n '4,10s/^# //p' "$0"; exit 1 ;;
        *) names+=("$1") ;;
    esac
    shift
done
case "$device" in
    cpu) all=(Tensors Kernels Autograd Transformer Lora Cli) ;;
    cuda)
        # The device has one stream and one pool: no two tests at once.
        export ENGINE_TEST_DEVICE=cuda ENGINE_REQUIRE_CUDA=1
        # Rows of data carry the trait too, which counts once they are tests of their own.
        options+=(-trait- Device=Cpu -parallel none -preEnumerateTheories)
        all=(Tensors Kernels Autograd Transformer Lora Cli)
        ;;
    *) echo "test.sh: --device is \"$device\"; expected cpu or cuda"; exit 1 ;;
esac
[ ${#names[@]} -gt 0 ] || names=("${all[@]}")

if [ -z "$programs" ] && [ "$build" = 1 ]; then
    dotnet build Engine.sln -c Release -v q -clp:NoSummary -nodeReuse:false || { echo "the build failed"; exit 1; }
fi

passed=0 failed=0 skipped=0 broken=0

# Runs one program and adds up what it reports.
run() {
    local name=$1 folder log code summary
    folder=${programs:-tests/$name/bin/Release/net10.0}
    local program=("$folder/Engine.$name.Tests")
    [ -x "${program[0]}" ] || program=(dotnet "$folder/Engine.$name.Tests.dll")
    log=$(mktemp)
    "${program[@]}" "${options[@]}" | tee "$log"
    code=${PIPESTATUS[0]}
    summary=$(grep -E "Engine\.$name\.Tests +Total: [0-9]+" "$log" | tail -n 1)
    rm -f "$log"
    number() { sed -nE "s/.*$1: ([0-9]+).*/\1/p" <<<"$summary"; }
    local total errors fail skip idle bad
    total=$(number Total) errors=$(number Errors) fail=$(number Failed) skip=$(number Skipped) idle=$(number 'Not Run')
    if [ -z "$total" ] || [ "$total" -eq 0 ]; then
        echo "${program[*]} reported no tests (exit code $code)"
        broken=$((broken + 1))
        return
    fi

    bad=$((errors + fail))
    # A program that ends badly without a failed test (a crash after the summary) still counts as a failure.
    [ "$code" -ne 0 ] && [ "$bad" -eq 0 ] && bad=1
    failed=$((failed + bad))
    skipped=$((skipped + skip))
    passed=$((passed + total - errors - fail - skip - idle))
}

for name in "${names[@]}"; do
    run "$name"

    # The kernels' guarded tensors are not aligned to vectors; a GPU's kernels take another path where they are.
    if [ "$device" = cuda ] && [ "$name" = Kernels ]; then
        export ENGINE_TEST_ALIGNED=1
        run "$name"
        unset ENGINE_TEST_ALIGNED
    fi
done

echo "$passed passed, $((failed + broken)) failed, $skipped skipped"
[ $((failed + broken)) -eq 0 ] && [ "$passed" -gt 0 ]
