#!/usr/bin/env bash
# What share of a warm training step a GPU works: the time in kernels, copies and fills of a step that is traced, by the
# device's clock, over the time of a step that is not. Prints a line and writes a JSON file.
# Usage: tools/busy/busy.sh ENGINE OUT.json MODEL_DIR [OPTION ...]     options of "engine bench train"
# Needs g++ and CUPTI: from the CUDA toolkit (CUDA_HOME, default /usr/local/cuda) or from PyTorch's wheels.
set -eu
engine=${1:?the program} out=${2:?the JSON file} model=${3:?a model directory}
shift 3
here=$(cd "$(dirname "$0")" && pwd) work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cuda=${CUDA_HOME:-/usr/local/cuda}
site=$(python3 -c 'import sysconfig; print(sysconfig.get_path("purelib"))' 2> /dev/null || true)
first() { find "$@" 2> /dev/null | head -n 1; }
header=$(first -L "$cuda" "$site/nvidia" -name cupti.h)
library=$(first -L "$cuda" "$site/nvidia" -name 'libcupti.so.1[23]*')
driver=$(first -L "$cuda" "$site/nvidia" -name cuda.h)
if [ -z "$header" ] || [ -z "$library" ] || [ -z "$driver" ]; then
    echo "busy.sh: cupti.h (${header:-none}), libcupti (${library:-none}) or cuda.h (${driver:-none}) is missing under $cuda and Python's packages" >&2
    exit 1
fi

include=${header%/*}
newest() { grep -ohE "^} *$1[0-9]+;" "$include"/cupti_activity*.h | grep -oE "$1[0-9]+" | sort -V | tail -n 1; }
g++ -O2 -shared -fPIC -o "$work/busy.so" "$here/busy.cpp" -I"$include" -I"${driver%/*}" -DKERNEL="$(newest CUpti_ActivityKernel)" \
    -DMEMCPY="$(newest CUpti_ActivityMemcpy)" -DMEMSET="$(newest CUpti_ActivityMemset)" "$library" -Wl,-rpath,"${library%/*}"

bench=("$engine" bench train --device cuda --quiet --model "$model" "$@")
"${bench[@]}" --json "$work/plain.json" > /dev/null
BUSY_OUT=$work/busy CUDA_INJECTION64_PATH=$work/busy.so "${bench[@]}" --json "$work/traced.json" > "$work/traced.log"
read -r busy pieces steps < "$work/busy" || { echo "busy.sh: the trace says \"$(cat "$work/busy")\"" >&2; exit 1; }
python3 - "$work/plain.json" "$work/traced.json" "$out" "$(basename "$model")" "$busy" "$pieces" "$steps" << 'END'
import json, sys
plain, traced, out, model, busy, pieces, steps = sys.argv[1:]
step, slowed = (json.load(open(f))["ms_per_step_median"] for f in (plain, traced))
result = {"model": model, "ms_per_step": step, "busy_ms": float(busy), "busy_share": float(busy) / step,
          "kernels_copies_fills": int(pieces), "ms_per_step_traced": slowed, "steps_seen": int(steps)}
json.dump(result, open(out, "w"), indent=1)
print(f"{model}: busy {float(busy):.2f} of {step:.2f} ms, {100 * result['busy_share']:.1f} % ({pieces} kernels, copies and fills; traced {slowed:.2f} ms)")
END
