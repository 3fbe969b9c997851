#!/usr/bin/env bash
# One session on a GPU host: unpacks a bundle (tools/bundle.sh) and runs the stages asked for, each with a time limit.
# Usage: tools/gpu-check.sh [--bundle FILE] [--out DIR] [--limit SECONDS] [STAGE ...]      default: tests to train
#   tests      every test program on the GPU, with native kernels and with the portable ones (PTX)
#   sanitizer  compute-sanitizer's tools over the tests of our own kernels
#   bf16       PyTorch's bf16 errors for the parity tests: DIR/bf16-errors.json (python3 with torch, transformers, peft)
#   demo       engine demo on the GPU: DIR/demo.json
#   models     random models for the comparison (python3 with torch)
#   train      the training step against PEFT, alternating: DIR/train-step.json, .md and .html (python3 with torch and peft)
#   busy       the GPU's share of a training step, by CUPTI: DIR/gpu-busy.json (g++; models)
#   decode     generation at batch 1 and 32, Llama 1B: DIR/gpu-decode.json (models)
#   llama-8b   load rate, first step and step of Llama 8B: DIR/gpu-llama-8b.json (makes the model: 16 GB in out/work)
#   sweep      the training step at several lengths and batches: DIR/sweep.json, .md and .html (python3 with torch and peft)
#   curves     loss curves of Engine and PEFT on one text: DIR/loss-curves.json and .svg (python3 with torch and peft)
#   soak       2,000 steps whose memory has to stay flat: DIR/gpu-soak.json (models)
#   lora       adapters, merges, mixed batches against PyTorch, and each op alone: DIR/lora-linear.json, .md and .html
#              (python3 with torch and peft)
#   --bundle   the archive; default: the first of .carry/bundle.tar.xz and publish/bundle.tar.xz
#   --out      default: $OUT, or out.  --limit: for everything together, default 570; stages that do not fit are skipped
# Environment: ROOMS (default "Tensors Kernels Autograd Transformer Lora Cli"), SANITIZERS ("memcheck memcheck-aligned
# racecheck-aligned initcheck-aligned synccheck-aligned"; aligned tensors take the kernels' vector paths), SANITIZE (a test
# filter, such as "-class *RmsNormTests"), MODELS ("gpt2-medium llama-1b"), COMPARE (more options for
# bench/pytorch/compare.py), CURVES (for loss_curves.py), LORA (for lora_bench.py). Ends with a table; DIR also gets
# summary.json, its stages of tests as gpu-tests.json and gpu-sanitizer.json, and logs.tar.gz. A limit around this script has to
# be longer than its own.
set -u
cd "$(dirname "$0")/.." || exit 1
bundle="" out=${OUT:-out} limit=570 stages=()
while [ $# -gt 0 ]; do
    case "$1" in
        --bundle) bundle=${2:?--bundle needs a file}; shift ;;
        --out) out=${2:?--out needs a folder}; shift ;;
        --limit) limit=${2:?--limit needs seconds}; shift ;;
        -h | --help) sed -n '2,25s/^# //p' "$0"; exit 0 ;;
        tests | sanitizer | bf16 | demo | models | train | busy | decode | llama-8b | sweep | curves | soak | lora) stages+=("$1") ;;
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

# The tests run with both kinds of images at once, and those of the kernels, the most by far, beside the other rooms': most of
# their time is the host's.
run_tests() {
    local room kind most=$((limit - SECONDS)) code took rooms=${ROOMS:-Tensors Kernels Autograd Transformer Lora Cli}
    local tells='[0-9]+ passed, [0-9]+ failed'
    if [ "$most" -lt 15 ]; then record tests skipped 0 "no time left of $limit s"; return; fi
    [ "$most" -le 420 ] || most=420
    for room in $rooms; do
        if [ "$room" != Kernels ]; then continue; fi
        run_room "$room" "$most" &
    done
    for room in $rooms; do
        if [ "$room" != Kernels ]; then run_room "$room" "$most"; fi
    done
    wait
    for room in $rooms; do
        for kind in tests tests-ptx; do
            read -r code took < "$work/$kind-$room.end"
            conclude "$kind-$room" "$most" "$took" "$code"
        done
    done
}

# One room's tests, native and portable side by side. $1: the room, $2: the most seconds.
run_room() {
    local kind option started=()
    for kind in tests tests-ptx; do
        case $kind in *-ptx) option=--ptx ;; *) option= ;; esac
        {
            local begin=$SECONDS code
            # shellcheck disable=SC2086 # an option or none
            timeout -k 10 "$2" ./test.sh --device cuda $option "$1" > "$logs/$kind-$1.log" 2>&1
            code=$?
            echo "$code $((SECONDS - begin))" > "$work/$kind-$1.end"
        } &
        started+=($!)
    done
    # Not for the other rooms, which may go on beside this one.
    wait "${started[@]}"
}

# Each tensor has its own memory (ENGINE_NO_POOL), so that its end and what was never written are seen. Left out: products
# and the low-rank path that is made of them, which are cuBLASLt's, a class that provokes errors of the driver, and the
# merge's 1,000 cycles, which repeat what is tested once. The tools run side by side, since most of their time is the host's.
run_sanitizer() {
    local tool tools tests found filter aligned begin=$SECONDS most=$((limit - SECONDS - 15)) tells='; tests: '
    read -ra tools <<< "${SANITIZERS:-memcheck memcheck-aligned racecheck-aligned initcheck-aligned synccheck-aligned}"
    read -ra filter <<< "${SANITIZE:-"-class- *MatMul* -class- *.LowRankTests -class- *CudaBlas* -class- *KernelFamilyTests -method- *Random_cycles*"}"
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
        # The last line that tells says both: what the tool found and how many tests it saw. Racecheck is silent if it finds nothing.
        found=$(grep -aoE 'ERROR SUMMARY: .*' "$logs/sanitizer-$tool.log" 2> /dev/null | tail -n 1)
        tests=$(grep -aoE 'Total: [0-9]+, Errors: [0-9]+, Failed: [0-9]+' "$logs/sanitizer-$tool.log" 2> /dev/null | tail -n 1)
        echo "${found:-no error summary}; tests: ${tests:-none reported}" >> "$logs/sanitizer-$tool.log"
        conclude "sanitizer-$tool" "$most" "$took" "$code"
    done
}

make_models() {
    local model shapes=()
    for model in ${MODELS:-gpt2-medium llama-1b}; do shapes+=(--shape "$model"); done
    step models 150 python3 bench/pytorch/make_model.py "${shapes[@]}" --out "$work/models"
}

# Puts results of one form together as bench/results has them. $1: the file in DIR, $2: the field's name, which holds a list if
# it ends in s, $3: the command that wrote them; then the results.
collect() {
    python3 - "$out/$1" "$2" "$3" "$gpu" "$commit" "${started%T*}" "${@:4}" << 'END'
import json, os, sys
out, field, command, gpu, commit, date, *files = sys.argv[1:]
name, driver = (gpu.split(",") + [""])[:2]
results = [json.load(open(f, encoding="utf-8")) for f in files if os.path.exists(f)]
if not results:
    sys.exit(f"no result for {out}")
about = {"gpu": name.strip(), "driver": driver.strip(), "date": date, "commit": commit, "command": command}
json.dump({"about": about, field: results if field.endswith("s") else results[0]}, open(out, "w", encoding="utf-8"), indent=1)
END
}

have_models() {
    local model missing=()
    for model in "$@"; do
        if [ ! -f "$work/models/$model/config.json" ]; then missing+=(--shape "$model"); fi
    done
    if [ ${#missing[@]} -eq 0 ]; then return; fi
    step "models-$1" 150 python3 bench/pytorch/make_model.py "${missing[@]}" --out "$work/models"
}

run_busy() {
    local model files=() options
    have_models llama-1b gpt2-medium || return
    for model in llama-1b gpt2-medium; do
        case $model in gpt2-medium) options="--rank 8 --targets c_attn" ;; *) options="--rank 16" ;; esac
        rm -f "$work/busy-$model.json"
        # shellcheck disable=SC2086 # several options
        step "busy-$model" 120 tools/busy/busy.sh "$engine" "$work/busy-$model.json" "$work/models/$model" --batch 8 --length 1024 $options
        files+=("$work/busy-$model.json")
    done
    collect gpu-busy.json models "tools/busy/busy.sh engine OUT MODEL --batch 8 --length 1024 (--rank 16; --rank 8 --targets c_attn)" "${files[@]}"
}

run_decode() {
    local batch files=() tells='decoding'
    have_models llama-1b || return
    for batch in 1 32; do
        rm -f "$work/decode-$batch.json"
        step "decode-$batch" 90 "$engine" bench decode --device cuda --model "$work/models/llama-1b" --batch "$batch" --prompt 128 --tokens 128 \
            --json "$work/decode-$batch.json"
        files+=("$work/decode-$batch.json")
    done
    collect gpu-decode.json runs "engine bench decode --model llama-1b --batch B --prompt 128 --tokens 128" "${files[@]}"
}

# The first process reads the model from the page cache if it was just made, or brings it there: the second one counts.
run_llama_8b() {
    local tells='tokens/s' run
    have_models llama-8b || return
    rm -f "$work/llama-8b.json"
    for run in warm timed; do
        step "llama-8b-$run" 120 "$engine" bench train --device cuda --model "$work/models/llama-8b" --batch 4 --length 1024 --rank 16 --steps 5 \
            --json "$work/llama-8b.json" || return
    done
    collect gpu-llama-8b.json run "engine bench train --model llama-8b --batch 4 --length 1024 --rank 16 --steps 5" "$work/llama-8b.json"
}

# The program's own limit is the shorter one: what it measured until then is kept.
run_lora() {
    local most ops=() tells='lora-linear|Error|error'
    if [ $((limit - SECONDS)) -ge 240 ] && step ops 60 "$engine" bench op --op all --device cuda --json "$out/gpu-ops.json"; then
        ops=(--ops "$out/gpu-ops.json")
    fi
    most=$((limit - SECONDS - 10))
    [ "$most" -le 280 ] || most=280
    # shellcheck disable=SC2086 # LORA holds several options
    step lora "$most" python3 bench/pytorch/lora_bench.py --engine "$engine" --out "$out" --work "$work" --commit "$commit" \
        --limit $((most - 15)) "${ops[@]}" ${LORA:-}
    if [ -f "$out/lora-linear.md" ]; then sed -n '/^- /p' "$out/lora-linear.md"; fi
}

run_train() {
    local models=${MODELS:-gpt2-medium llama-1b} tells=' ms |exit code|Error'
    # shellcheck disable=SC2086 # COMPARE holds several options
    step train 540 python3 bench/pytorch/compare.py --engine "$engine" --models "${models// /,}" --out "$out" --work "$work" \
        --commit "$commit" ${COMPARE:-}
    if [ -f "$out/train-step.md" ]; then cat "$out/train-step.md"; fi
}

# PEFT under torch.compile takes a minute a case: only with COMPARE="--compile-rounds 1".
run_sweep() {
    local models=${MODELS:-gpt2-medium llama-1b} most=$((limit - SECONDS - 10)) tells=' ms |exit code|Error'
    mkdir -p "$work/sweep"
    # shellcheck disable=SC2086 # COMPARE holds several options
    step sweep "$most" python3 bench/pytorch/compare.py --engine "$engine" --models "${models// /,}" --sweep --rounds 1 --compile-rounds 0 \
        --out "$work/sweep" --work "$work" --commit "$commit" --limit $((most - 30)) ${COMPARE:-}
    for kind in json md html; do if [ -f "$work/sweep/train-step.$kind" ]; then cp "$work/sweep/train-step.$kind" "$out/sweep.$kind"; fi; done
    if [ -f "$out/sweep.md" ]; then cat "$out/sweep.md"; fi
}

run_curves() {
    local tells='from PEFT|failed|Error'
    have_models llama-1b || return
    # shellcheck disable=SC2086 # CURVES holds several options
    step curves 240 python3 bench/pytorch/loss_curves.py --engine "$engine" --model "$work/models/llama-1b" --out "$out" --work "$work/curves" \
        --commit "$commit" ${CURVES:-}
    cat "$logs/curves.log"
}

run_soak() {
    have_models gpt2-medium || return
    step soak 200 python3 tools/soak.py --engine "$engine" --model "$work/models/gpt2-medium" --out "$out/gpu-soak.json" --commit "$commit" \
        -- --batch 8 --length 1024 --rank 8 --targets c_attn
}

for stage in "${stages[@]}"; do
    case $stage in
        sweep) run_sweep ;;
        curves) run_curves ;;
        soak) run_soak ;;
        tests) run_tests ;;
        sanitizer) run_sanitizer ;;
        bf16) tells='cases written' step bf16 240 python3 tests/fixtures/parity/bf16_errors.py --out "$out/bf16-errors.json" ;;
        demo) step demo 180 "$engine" demo --device cuda --json "$out/demo.json" ;;
        models) make_models ;;
        train) run_train ;;
        busy) run_busy ;;
        decode) run_decode ;;
        llama-8b) run_llama_8b ;;
        lora) run_lora ;;
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

# Writes what ran as JSON. $1: the file in DIR, $2: what the stages' names begin with; no such stage, no file.
write_stages() {
    local i separator="" stages=""
    for i in "${!names[@]}"; do
        case ${names[$i]} in "$2"*) ;; *) continue ;; esac
        stages+=$(printf '%s\n  {"name": "%s", "state": "%s", "seconds": %d, "detail": "%s"}' \
            "$separator" "${names[$i]}" "${states[$i]}" "${times[$i]}" "${details[$i]}")
        separator=,
    done
    if [ -z "$stages" ]; then return; fi
    printf '{\n "gpu": "%s",\n "nvcc": "%s",\n "commit": "%s",\n "date": "%s",\n "stages": [%s\n ]\n}\n' \
        "${gpu//\"/}" "${nvcc:-none}" "$commit" "$started" "$stages" > "$out/$1"
}
write_stages summary.json ""
write_stages gpu-tests.json tests
write_stages gpu-sanitizer.json sanitizer
cp "$work"/*.log "$logs/" 2>/dev/null
tar czf "$out/logs.tar.gz" -C "$work" logs

echo
echo "$gpu; commit $commit; $started; $SECONDS s"
for i in "${!names[@]}"; do
    printf '%-28s %-8s %5d s  %s\n' "${names[$i]}" "${states[$i]}" "${times[$i]}" "${details[$i]}"
done
[ "$failures" -eq 0 ]
