#!/usr/bin/env bash
# Compiles every kernel and writes kernels-cu/prebuilt/: <op>.ptx.gz (portable: PTX ISA at most 8.0 for sm_80, so that every
# driver from CUDA 12.0 on loads it), <op>.sm_NN.cubin.gz (native), and manifest.tsv, which ties each image to its source.
# Usage: kernels-cu/build.sh [--ptx | --cubin] [OP ...]     default: both kinds, all ops
#   NVCC   the compiler (default nvcc); 11.8 to 12.0 for --ptx, 11.8 or newer for --cubin
#   ARCHS  the native targets (default "80 90"; for ops with a wgmma.cuh "80 90a", which takes nvcc 12 or newer)
#   FLAGS  more flags; OUT: another folder for the images, from kernels-cu/
#   HOSTCXX  the host compiler of nvcc 11 (default clang-14)
# Without a GPU: Debian's nvidia-cuda-toolkit (non-free) and clang-14 are enough.
set -eu
cd "$(dirname "$0")"
kinds="ptx cubin" ops=()
for argument in "$@"; do
    case "$argument" in
        --ptx) kinds=ptx ;;
        --cubin) kinds=cubin ;;
        -h | --help) sed -n '2,10s/^# //p' "${0##*/}"; exit 0 ;;
        *) ops+=("$argument") ;;
    esac
done
[ ${#ops[@]} -gt 0 ] || for file in */*.cu; do ops+=("${file%%/*}"); done
nvcc=${NVCC:-nvcc} out=${OUT:-prebuilt} flags="-std=c++17 -O3 --threads 0 ${FLAGS:-}"
version=$("$nvcc" --version | sed -nE 's/.*release ([0-9.]+),.*/\1/p')
case "$version" in 11.*) flags="$flags -ccbin ${HOSTCXX:-clang-14} -Wno-deprecated-gpu-targets" ;; esac
mkdir -p "$out"
touch "$out/manifest.tsv"

# The hash that ties an image to its source: all files of the op's folder and of common/, names and contents.
source_hash() { for f in $(ls common/*.cuh "$1"/*.cu "$1"/*.cuh 2>/dev/null | LC_ALL=C sort); do printf '%s\n' "$f"; cat "$f"; done | sha256sum | cut -d' ' -f1; }

# The native targets of an op. The instructions of one architecture alone are worth an image of its own where they are used.
targets() {
    local newest=90
    if [ -z "${ARCHS:-}" ] && [ -f "$1/wgmma.cuh" ]; then
        case "$version" in
            11.*) echo "build.sh: nvcc $version knows no sm_90a: its image of $1 for 9.0 lacks the kernels with warpgroup products" >&2 ;;
            *) newest=90a ;;
        esac
    fi
    echo "${ARCHS:-80 $newest}"
}

# Takes an image out of the folder and the manifest.
forget() {
    rm -f "$out/$1" "$out/$1.gz"
    { grep -v -P "^$1\t" "$out/manifest.tsv" || true; } > "$out/manifest.new"
    mv "$out/manifest.new" "$out/manifest.tsv"
}

# Compresses the image and replaces its line in the manifest; the hash is that of the image itself.
record() {
    local image=$1 op=$2 target=$3 hash
    hash=$(sha256sum "$out/$image" | cut -d' ' -f1)
    { grep -v -P "^$image\t" "$out/manifest.tsv" | grep -v '^image' || true
      printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$image" "$(source_hash "$op")" "$hash" "nvcc $version" "$target" "-std=c++17 -O3 ${FLAGS:-}"
    } | LC_ALL=C sort -u > "$out/manifest.new"
    { printf 'image\tsource_sha256\timage_sha256\tcompiler\ttarget\tflags\n'; cat "$out/manifest.new"; } > "$out/manifest.tsv"
    rm "$out/manifest.new"
    gzip -9nf "$out/$image"
}

for op in "${ops[@]}"; do
    for kind in $kinds; do
        if [ "$kind" = ptx ]; then
            "$nvcc" $flags -ptx -arch=compute_80 -o "$out/$op.ptx.new" "$op/$op.cu"
            isa=$(sed -nE 's/^\.version ([0-9.]+).*/\1/p' "$out/$op.ptx.new")
            if [ "$(printf '%s\n8.0\n' "$isa" | sort -V | tail -n 1)" != 8.0 ]; then
                rm "$out/$op.ptx.new"
                echo "build.sh: $nvcc $version writes PTX ISA $isa; the portable image must not exceed 8.0 (use nvcc 11.8 to 12.0, or --cubin)" >&2
                exit 1
            fi
            # Comments of the compiler name temporary files, which differ from run to run.
            grep -v '^//' "$out/$op.ptx.new" > "$out/$op.ptx"
            rm "$out/$op.ptx.new"
            record "$op.ptx" "$op" compute_80
        else
            for arch in $(targets "$op"); do
                "$nvcc" $flags -cubin -gencode "arch=compute_$arch,code=sm_$arch" -o "$out/$op.sm_$arch.cubin" "$op/$op.cu"
                # One image for 9.0.
                case "$arch" in 90) forget "$op.sm_90a.cubin" ;; 90a) forget "$op.sm_90.cubin" ;; esac
                record "$op.sm_$arch.cubin" "$op" "sm_$arch"
            done
        fi
    done
    echo "$op"
done
