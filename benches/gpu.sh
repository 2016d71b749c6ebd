#!/usr/bin/env bash
# What a GPU does with Evenkeel: correctness first, then all benches, then one short table. About five minutes on a GPU.
# Nothing comes from a network and nothing is built: everything stands in a folder that was packed on another machine.
#
#   benches/gpu.sh --pack DIR [PROFILE]    builds the programs (cargo profile, by default release) and collects them in DIR
#   benches/gpu.sh DIR [ADAPTER]           runs them on the adapter that ADAPTER names a part of, by default the best one
#
# PRESETS="nano s m l" are the models; PATIENCE=120 is how many seconds one part may take, three times as many a suite of
# tests. Where python3 can import torch (with numpy and safetensors) and CUDA, its step in bf16 autocast, compiled, gives the
# ratio; TORCH="--device cpu" asks for another. All output stands in DIR/results, and the table tells of what there is when
# the script ends, also when it is stopped; the status is 1 where a test failed.
set -u

pack() {
    local repository profile=${2:-release}
    repository=$(cd "$(dirname "$0")/.." && pwd) && mkdir -p "$1" && cd "$repository" || return 1
    cp benches/gpu.sh benches/peers/torch_step.py benches/peers/run.py "$1" || return 1
    mkdir -p "$1/tests" "$1/assets" && cp -r assets/golden "$1/assets" || return 1
    executables() { sed -n 's/.*Executable.* (\(.*\))$/\1/p'; }
    local log=$1/build.log path
    cargo build --workspace --profile "$profile" --bin evenkeel 2>&1 | tee "$log" || return 1
    local folder=$profile
    [ "$profile" = dev ] && folder=debug
    cp "${CARGO_TARGET_DIR:-target}/$folder/evenkeel" "$1" || return 1
    cargo test --workspace --profile "$profile" --test kernels --test model --no-run 2>&1 | tee "$log"
    executables <"$log" | while read -r path; do cp "$path" "$1/test-$(basename "${path%-*}")"; done
    cargo bench --workspace --profile "$profile" --bench kernels --no-run 2>&1 | tee "$log"
    executables <"$log" | while read -r path; do cp "$path" "$1/bench-$(basename "${path%-*}")"; done
    # A third of their size is names for debuggers.
    ! command -v strip >/dev/null || strip "$1/evenkeel" "$1"/test-* "$1"/bench-* || return 1
    git rev-parse --short HEAD >"$1/commit"
    ls "$1"
    [ -x "$1/test-kernels" ] && [ -x "$1/test-model" ] && [ -x "$1/bench-kernels" ]
}

if [ "${1:-}" = --pack ] && [ -n "${2:-}" ]; then
    mkdir -p "$2"
    pack "$(cd "$2" && pwd)" "${3:-release}"
    exit
fi
if [ ! -x "${1:-}/evenkeel" ]; then
    sed -n '2,10s/^# \{0,1\}//p' "$0"
    exit 2
fi

folder=$(cd "$1" && pwd)
adapter=${2:-}
named=(${adapter:+--adapter "$adapter"})
presets=${PRESETS:-nano s m l}
largest=${presets##* }
patience=${PATIENCE:-120}
results=$folder/results
rm -rf "$results" && mkdir -p "$results" || exit 1
status=0
# Tests take the adapter from the environment, and golden data from beside the folder that this names.
export CARGO_MANIFEST_DIR=$folder/tests ${adapter:+EVENKEEL_ADAPTER="$adapter"}

# part NAME COMMAND...: its output goes into a file of that name.
part() {
    local name=$1 from=$SECONDS seconds=$patience
    shift
    case $name in test-*) seconds=$((3 * patience)) ;; esac
    echo "... $name" >&2
    timeout "$seconds" "$@" >"$results/$name.txt" 2>&1
    local outcome=$?
    [ $outcome -eq 124 ] && echo "took more than $seconds s (PATIENCE=$patience)" >>"$results/$name.txt"
    [ $outcome -eq 0 ] || echo "    $(tail -n 1 "$results/$name.txt")" >&2
    echo "    $((SECONDS - from)) s" >&2
    return $outcome
}

# What there is, as one table.
summary() {
    trap - EXIT
    exec 2>/dev/null # parts that were not reached have no file
    echo
    echo "$(sed -n 1p "$results/devices.txt"), commit $(cat "$folder/commit")"
    sed -n 's/^ *\(would use.*\)/\1/p' "$results/devices.txt" | sed -n 1p
    for test in kernels model; do
        echo "$test: $(grep -h '^test result' "$results/test-$test.txt" || tail -n 1 "$results/test-$test.txt" || echo not run)"
    done
    for preset in $presets; do cat "$results/steps-$preset.txt"; done | awk '
        /^(copy of|best)/ && !seen[$1]++ { print; next }
        /^preset/ && !seen[$1]++ { print; next }
        $1 ~ /^('"${presets// /|}"')$/ && NF > 5 && $4 + 0 > 0 { print }'
    echo "products on the extents of preset $largest, best variant of each, and the one that a step uses:"
    awk '/^matmul/ { used = $3 == "*"; name = used ? $4 : $3; g = used ? $9 + 0 : $8 + 0
            at = $1 " " $2; for (i = NF - 6; i <= NF; i++) if ($i ~ /^[MNK]=/) at = at " " $i
            if (!(at in best)) order[++count] = at
            if (g > best[at] + 0) { best[at] = g; which[at] = name }
            if (used) mine[at] = name " " g }
        END { for (i = 1; i <= count; i++) { at = order[i]
            printf "  %-44s %9.1f GFLOP/s %-28s used: %s\n", at, best[at], which[at], mine[at] } }' "$results/products.txt"
    for preset in $presets; do
        theirs=$(sed -n 's/.*"tokens_per_s": \([0-9.]*\).*/\1/p' "$results/torch-$preset.txt" 2>/dev/null)
        [ -n "$theirs" ] && awk -v theirs="$theirs" '$2 == "llama" && NF > 5 {
            printf "%-8sPyTorch%13.0f tokens/s; Evenkeel in %s / PyTorch %.2f\n", $1, theirs, $3, $4 / theirs }' "$results/steps-$preset.txt"
    done
    exit $status
}

part devices "$folder/evenkeel" devices "${named[@]}" || exit 1
if grep -q '^cpu ' <(sed -n 1p "$results/devices.txt"); then
    echo "gpu.sh: expected a Vulkan, Metal or DX12 adapter, got none: nothing to measure (evenkeel doctor says what is missing)" >&2
    exit 1
fi
trap summary EXIT
trap 'status=1; exit' INT TERM
for test in kernels model; do
    part "test-$test" "$folder/test-$test" $([ $test = model ] && echo gpu) || status=1
done
for preset in $presets; do
    part "steps-$preset" "$folder/evenkeel" bench --preset "$preset" --precision f32 --precision mixed "${named[@]}"
done
measured=${adapter:-$(sed -n '1s/,.*//p' "$results/devices.txt")}
part products "$folder/bench-kernels" matmul "$largest" "$measured"

# The preset's first weights in Hugging Face's layout, and tokens; then PyTorch trains on them.
torch() {
    local run=$results/models/$1 batch time
    "$folder/evenkeel" pretrain --preset "$1" --steps 1 --set optimizer.lr=0 --set instruments.interval=0 \
        --out "$run" "${named[@]}" || return 1
    batch=$(sed -n 's/^batch_size = //p' "$run/run.toml")
    time=$(sed -n 's/^seq_len = //p' "$run/run.toml")
    (cd "$folder" && python3 - "$run/checkpoints/step-000001" $((16 * batch * time + 1)) <<'PYTHON'
import json, pathlib, sys
import run
folder = pathlib.Path(sys.argv[1])
vocabulary = json.loads((folder / "config.json").read_text())["vocab_size"]
run.write_tokens(folder / "tokens.bin", int(sys.argv[2]), vocabulary)
PYTHON
    ) || return 1
    python3 "$folder/torch_step.py" speed "$run/checkpoints/step-000001" --batch "$batch" --seconds 2 ${TORCH:---device cuda --compile --bf16}
}
if [ -n "${TORCH:-}" ] || python3 -c 'import numpy, safetensors, torch, sys; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
    export -f torch
    export folder results
    for preset in $presets; do part "torch-$preset" bash -c 'preset=$1; shift; named=("$@"); torch "$preset"' torch "$preset" "${named[@]}"; done
fi

# All kernels, for the file: last, for it takes longest.
part kernels "$folder/bench-kernels" "" "${presets%% *}" "$measured"
