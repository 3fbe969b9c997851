#!/usr/bin/env bash
# One session on a GPU host: unpacks a bundle (tools/bundle.sh) and runs the stages asked for, each with a time limit.
# Usage: tools/gpu-check.sh [--bundle FILE] [--out DIR] [--limit SECONDS] [STAGE ...]      default: every stage, in this order
#   tests      every test program on the GPU, with native kernels and again with the portable ones (PTX)
#   sanitizer  compute-sanitizer's tools over the tests of our own kernels
#   bf16       PyTorch's bf16 errors for the parity tests: DIR/bf16-errors.json (python3 with torch, transformers, peft)
#   demo       engine demo on the GPU: DIR/demo.json
#   models     random models for the comparison (python3 with torch)
#   train      the training step against PEFT, alternating: DIR/train-step.json and .md (python3 with torch and peft)
#   --bundle   the archive; default: the first of .carry/bundle.tar.xz and publish/bundle.tar.xz
#   --out      default: $OUT, or out.  --limit: for everything together, default 570; stages that do not fit are skipped
# Environment: ROOMS (default "Tensors Kernels Autograd Transformer Lora Cli"), SANITIZERS ("memcheck memcheck-aligned
# racecheck-aligned initcheck-aligned synccheck-aligned"; aligned tensors take the kernels' vector paths), SANITIZE (a test
# filter, such as "-class *RmsNormTests"), MODELS ("gpt2-medium llama-1b"), COMPARE (more options for
# bench/pytorch/compare.py). Ends with a table; DIR also gets summary.json and logs.tar.gz.
set -u
cd "$(dirname "$0")/.." || exit 1
bundle="" out=${OUT:-out} limit=570 stages=()
while [ $# -gt 0 ]; do
    case "$1" in
        --bundle) bundle=${2:?--bundle needs a file}; shift ;;
        --out) out=${2:?--out needs a folder}; shift ;;
        --limit) limit=${2:?--limit needs seconds}; shift ;;
        -h | --help) sed -n '2,16s/^# //p' "$0"; exit 0 ;;
        tests | sanitizer | bf16 | demo | models | train) stages+=("$1") ;;
        *) echo "gpu-check.sh: unknown stage or option $1 (--help shows them)" >&2; exit 2 ;;
    esac
    shift
done
[ ${#stages[@]} -gt 0 ] || stages=(tests sanitizer bf16 demo models train)
if [ -z "$bundle" ]; then
    for bundle in .carry/bundle.tar.xz publish/bundle.tar.xz; do [ -f "$bundle" ] && break; done
fi

# Inside the checkout, where git ignores it: models are large, and what lies in DIR may be carried back.
work=$PWD/out/work logs=$PWD/out/work/logs
rm -rf "$logs" "$work/bundle"
mkdir -p "$out" "$logs"
out=$(cd "$out" && pwd)
tar xf "$bundle" -C "$work" || { echo "gpu-check.sh: $bundle cannot be unpacked; tools/bundle.sh makes it" >&2; exit 1; }
export DOTNET_ROOT=$work/bundle/dotnet DOTNET_HOST_PATH=$work/bundle/dotnet/dotnet
export PATH=$DOTNET_ROOT:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
export ENGINE_TEST_PROGRAMS=$work/bundle/tests ENGINE_TEST_DEVICE=cuda ENGINE_REQUIRE_CUDA=1
engine=$work/bundle/engine

# cuBLASLt: where neither the loader nor the toolkit has it, PyTorch's wheels bring it.
if [ -z "${ENGINE_CUDA_LIBRARY_PATH:-}" ] && ! ldconfig -p | grep -q 'libcublasLt\.so\.1[23]' &&
    [ ! -e /usr/local/cuda/lib64/libcublasLt.so.13 ]; then
    site=$(python3 -c 'import sysconfig; print(sysconfig.get_path("purelib"))' 2>/dev/null)
    library=$(find "$site/nvidia" -name 'libcublasLt.so.1[23]' 2>/dev/null | sort | tail -n 1)
    if [ -n "$library" ]; then export ENGINE_CUDA_LIBRARY_PATH=${library%/*}; fi
fi

gpu=$(nvidia-smi --query-gpu=name,driver_version,memory.total,compute_cap --format=csv,noheader 2> /dev/null | head -n 1)
gpu=${gpu:-no GPU (nvidia-smi says nothing)}
nvcc=$(nvcc --version 2>/dev/null | sed -nE 's/.*release ([^,]+),.*/\1/p')
commit=$(sed -nE 's/^commit //p' "$work/bundle/VERSION")
started=$(date -u +%Y-%m-%dT%H:%M:%SZ)
echo "GPU, driver, memory, compute capability: $gpu; nvcc ${nvcc:-none}; commit $commit; $started"
echo "cuBLASLt: ${ENGINE_CUDA_LIBRARY_PATH:-where the loader or the toolkit has it}"

# Names, states, seconds and details of what ran.
names=() states=() times=() details=()

record() { names+=("$1") states+=("$2") times+=("$3") details+=("$4"); printf '%-28s %-8s %5d s  %s\n' "$1" "$2" "$3" "$4"; }

# Runs a command with a time limit. $1: its name, $2: seconds, then the command. The detail is the last line of the log that
# fits the pattern in $tells (default: the last line).
tells=.
step() {
    local name=$1 most=$2 log=$logs/$1.log begin=$SECONDS left code
    shift 2
    left=$((limit - SECONDS))
    if [ "$left" -lt 15 ]; then record "$name" skipped 0 "no time left of $limit s"; return 1; fi
    [ "$most" -le "$left" ] || most=$left
    timeout -k 10 "$most" "$@" > "$log" 2>&1
    code=$?
    conclude "$name" "$most" $((SECONDS - begin)) "$code"
}

# Records what a command came to. $1: its name, $2: the seconds it was given, $3: those it took, $4: its exit code.
conclude() {
    local name=$1 most=$2 took=$3 code=$4 log=$logs/$1.log state detail
    detail=$({ grep -aE "$tells" "$log" || tail -n 1 "$log"; } | tail -n 1 | tr -d '"\\[:cntrl:]' | cut -c 1-160 | iconv -c -f utf-8 -t utf-8)
    state=ok
    if [ "$took" -ge "$most" ]; then
        state=timeout detail="after $most s; $detail"
    elif [ "$code" -ne 0 ]; then
        state=failed detail="exit code $code; $detail"
    fi
    record "$name" "$state" "$took" "$detail"
    [ "$code" -eq 0 ]
}

run_tests() {
    local room tells='[0-9]+ passed, [0-9]+ failed'
    for room in ${ROOMS:-Tensors Kernels Autograd Transformer Lora Cli}; do
        step "tests-$room" 240 ./test.sh --device cuda "$room"
    done
    for room in ${ROOMS:-Tensors Kernels Autograd Transformer Lora Cli}; do
        step "tests-ptx-$room" 240 ./test.sh --device cuda --ptx "$room"
    done
}

# Each tensor has its own memory (ENGINE_NO_POOL), so that its end and what was never written are seen. Left out: products
# and the low-rank path that is made of them, which are cuBLASLt's, and a class that provokes errors of the driver. The tools
# run side by side, since most of their time is the host's.
run_sanitizer() {
    local tool tools tests filter aligned begin=$SECONDS most=$((limit - SECONDS - 15)) tells='ERROR SUMMARY|Total:'
    read -ra tools <<< "${SANITIZERS:-memcheck memcheck-aligned racecheck-aligned initcheck-aligned synccheck-aligned}"
    read -ra filter <<< "${SANITIZE:-"-class- *MatMul* -class- *.LowRankTests -class- *CudaBlas* -class- *KernelFamilyTests"}"
    if ! command -v compute-sanitizer > /dev/null; then PATH=$PATH:/usr/local/cuda/bin; fi
    if [ "$most" -lt 15 ]; then record sanitizer skipped 0 "no time left of $limit s"; return; fi
    for tool in "${tools[@]}"; do
        aligned=0
        case $tool in *-aligned) aligned=1 ;; esac
        {
            ENGINE_NO_POOL=1 ENGINE_TEST_ALIGNED=$aligned timeout -k 10 "$most" compute-sanitizer --tool "${tool%-aligned}" \
                --target-processes all --error-exitcode 99 --print-limit 200 \
                "$DOTNET_HOST_PATH" "$ENGINE_TEST_PROGRAMS/Engine.Kernels.Tests.dll" -noColor -parallel none -preEnumerateTheories \
                -trait- Device=Cpu "${filter[@]}" > "$logs/sanitizer-$tool.log" 2>&1
            echo "$? $((SECONDS - begin))" > "$work/sanitizer-$tool.end"
        } &
    done
    wait
    for tool in "${tools[@]}"; do
        local code took
        read -r code took < "$work/sanitizer-$tool.end"
        conclude "sanitizer-$tool" "$most" "$took" "$code"
        tests=$(grep -aoE 'Total: [0-9]+, Errors: [0-9]+, Failed: [0-9]+' "$logs/sanitizer-$tool.log" 2>/dev/null | tail -n 1)
        echo "    tests under $tool: ${tests:-none reported}"
    done
}

make_models() {
    local model shapes=()
    for model in ${MODELS:-gpt2-medium llama-1b}; do shapes+=(--shape "$model"); done
    step models 150 python3 bench/pytorch/make_model.py "${shapes[@]}" --out "$work/models"
}

run_train() {
    local models=${MODELS:-gpt2-medium llama-1b} tells=' ms |exit code|Error'
    # shellcheck disable=SC2086 # COMPARE holds several options
    step train 540 python3 bench/pytorch/compare.py --engine "$engine" --models "${models// /,}" --out "$out" --work "$work" \
        --commit "$commit" ${COMPARE:-}
    if [ -f "$out/train-step.md" ]; then cat "$out/train-step.md"; fi
}

for stage in "${stages[@]}"; do
    case $stage in
        tests) run_tests ;;
        sanitizer) run_sanitizer ;;
        bf16) tells='cases written' step bf16 240 python3 tests/fixtures/parity/bf16_errors.py --out "$out/bf16-errors.json" ;;
        demo) step demo 180 "$engine" demo --device cuda --json "$out/demo.json" ;;
        models) make_models ;;
        train) run_train ;;
    esac
done

# What went wrong, from the logs; everything is in logs.tar.gz.
failures=0
for i in "${!names[@]}"; do
    if [ "${states[$i]}" = ok ]; then continue; fi
    failures=$((failures + 1))
    log=$logs/${names[$i]}.log
    if [ ! -f "$log" ]; then continue; fi
    echo "--- ${names[$i]}"
    case ${names[$i]} in
        tests-*) grep -a -A 2 '\[FAIL\]' "$log" | cut -c 1-240 | head -n 40 ;;
        sanitizer-*) grep -aE '^========= +[A-Z]|^========= .* at |\[FAIL\]' "$log" | cut -c 1-200 | sort | uniq -c | sort -rn | head -n 20 ;;
    esac
    tail -n 6 "$log" | cut -c 1-300
done

{
    printf '{\n "gpu": "%s",\n "nvcc": "%s",\n "commit": "%s",\n "date": "%s",\n "stages": [' \
        "${gpu//\"/}" "${nvcc:-none}" "$commit" "$started"
    separator=""
    for i in "${!names[@]}"; do
        printf '%s\n  {"name": "%s", "state": "%s", "seconds": %d, "detail": "%s"}' \
            "$separator" "${names[$i]}" "${states[$i]}" "${times[$i]}" "${details[$i]}"
        separator=,
    done
    printf '\n ]\n}\n'
} > "$out/summary.json"
cp "$work"/*.log "$logs/" 2>/dev/null
tar czf "$out/logs.tar.gz" -C "$work" logs

echo
echo "$gpu; commit $commit; $started; $SECONDS s"
for i in "${!names[@]}"; do
    printf '%-28s %-8s %5d s  %s\n' "${names[$i]}" "${states[$i]}" "${times[$i]}" "${details[$i]}"
done
[ "$failures" -eq 0 ]
