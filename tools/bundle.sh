#!/usr/bin/env bash
# Makes one archive that runs on a Linux machine without .NET: engine, engine-bench, the test programs and the .NET runtime.
# Usage: tools/bundle.sh [--no-tests] [--out DIR] [--level 0-9]
#   --no-tests   leave the test programs out
#   --out DIR    where DIR/bundle/ and DIR/bundle.tar.xz are written (default: publish)
#   --level N    xz's level (default 6)
# There:         tar xf bundle.tar.xz && bundle/engine demo --device cuda
# Tests there:   bundle/tests/Engine.Kernels.Tests, or PATH=$PWD/bundle/dotnet:$PATH ENGINE_TEST_PROGRAMS=bundle/tests ./test.sh
# The tests read fixtures: unpack inside a checkout, or start them with a checkout as the current directory.
set -eu
cd "$(dirname "$0")/.."
tests=1 out=publish level=6
while [ $# -gt 0 ]; do
    case "$1" in
        --no-tests) tests=0 ;;
        --out) out=${2:?--out needs a folder}; shift ;;
        --level) level=${2:?--level needs a number from 0 to 9}; shift ;;
        -h | --help) sed -n '2,9s/^# //p' "$0"; exit 0 ;;
        *) echo "bundle.sh: unknown option $1 (--help shows them)" >&2; exit 2 ;;
    esac
    shift
done

mkdir -p "$out"
bundle=$out/bundle
rm -rf "$bundle" "$bundle.tar.xz"
mkdir -p "$bundle/app"

# All programs of a kind share a folder with their libraries. -nodeReuse:false leaves no build server behind.
publish() {
    dotnet publish "$1" -c Release --no-self-contained -p:PublishDocumentationFiles=false \
        -p:PublishReferencesDocumentationFiles=false -o "$2" -v q -clp:NoSummary -nodeReuse:false
}

# A script that runs a dll with the bundle's runtime, in place of the SDK's launcher, which looks for an installed one; tests
# start further processes through DOTNET_HOST_PATH.
# $1: the program, $2: the dll, $3: from the program's folder to the bundle.
launcher() {
    rm -f "$1"
    cat > "$1" <<END
#!/bin/sh
here=\$(dirname "\$(readlink -f "\$0")")/$3
export DOTNET_ROOT="\$here/dotnet" DOTNET_HOST_PATH="\$here/dotnet/dotnet"
exec "\$here/dotnet/dotnet" "\$here/$2" "\$@"
END
    chmod +x "$1"
}

publish src/Cli/Cli.csproj "$bundle/app"
publish bench/Bench.csproj "$bundle/app"
rm -f "$bundle/app/engine" "$bundle/app/engine-bench"
launcher "$bundle/engine" app/engine.dll .
launcher "$bundle/engine-bench" app/engine-bench.dll .
if [ "$tests" = 1 ]; then
    for project in tests/*/*.Tests.csproj; do
        publish "$project" "$bundle/tests"
        name=$(basename "$project" .csproj)
        launcher "$bundle/tests/Engine.$name" "tests/Engine.$name.dll" ..
    done

    rm -f "$bundle/tests/engine"
    # What the tests share with the program is in the archive once.
    for file in "$bundle"/tests/*.dll; do
        twin=$bundle/app/$(basename "$file")
        if [ -f "$twin" ] && cmp -s "$file" "$twin"; then ln -f "$twin" "$file"; fi
    done
fi

# The runtime of the installed .NET that the programs would choose: the newest with their major version.
runtime=$(dotnet --list-runtimes | sed -nE 's/^Microsoft\.NETCore\.App (10\.[^ ]+) .*/\1/p' | sort -V | tail -n 1)
root=$(dirname "$(readlink -f "$(command -v dotnet)")")
if [ -z "$runtime" ] || [ ! -d "$root/shared/Microsoft.NETCore.App/$runtime" ]; then
    echo "bundle.sh: no .NET 10 runtime under $root; \"dotnet --list-runtimes\" shows what is installed" >&2
    exit 1
fi

mkdir -p "$bundle/dotnet/host/fxr" "$bundle/dotnet/shared/Microsoft.NETCore.App"
cp "$root/dotnet" "$bundle/dotnet/"
for text in LICENSE.txt ThirdPartyNotices.txt; do
    if [ -f "$root/$text" ]; then cp "$root/$text" "$bundle/dotnet/"; fi
done
cp -r "$root/host/fxr/$(ls "$root/host/fxr" | sort -V | tail -n 1)" "$bundle/dotnet/host/fxr/"
cp -r "$root/shared/Microsoft.NETCore.App/$runtime" "$bundle/dotnet/shared/Microsoft.NETCore.App/"

# Which sources: the programs say their commit, but not whether the tree had changes.
commit=$(git rev-parse HEAD 2>/dev/null || echo unknown)
if [ -n "$(git status --porcelain 2>/dev/null)" ]; then commit=$commit-modified; fi
printf 'commit %s\nbuilt %s\nruntime %s\n' "$commit" "$(date -u +%Y-%m-%dT%H:%MZ)" "$runtime" > "$bundle/VERSION"

tar c -C "$out" --sort=name --owner=0 --group=0 --numeric-owner bundle | xz "-$level" -T0 --block-size=24MiB > "$bundle.tar.xz"
printf '%s: %d MB, %s\n' "$bundle.tar.xz" "$(($(stat -c %s "$bundle.tar.xz") / 1000000))" "$(head -n 1 "$bundle/VERSION")"
