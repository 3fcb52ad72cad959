#!/usr/bin/env bash
# Training and evaluation steps beside PyTorch, in turn on one machine; raw lines and a table into a folder.
#
#     benches/train_step.sh OUT TORCH_TRAIN_STEP.py [PYTHON]
#
# TORCH_TRAIN_STEP.py is a script with the options and the JSON line of `peer-bench train-step` that trains with
# PyTorch. Nothing else should run on the machine: each round notes the load before it.
set -euo pipefail
out=$1 script=$2 python=${3:-python}
here=$(cd "$(dirname "$0")/.." && pwd)
bench=$here/target/release/peer-bench
forward=$here/benches/peers/torch_forward.py
rounds=${ROUNDS:-5}
mkdir -p "$out"
(cd "$here" && cargo build --release -p bench --bin peer-bench)
versus() {
  name=$1 peer=$2; shift 2
  echo "== $name" | tee -a "$out/table.txt"
  "$bench" versus --peer "$python $peer" --rounds "$rounds" --raw "$out/$name.jsonl" "${cross[@]}" -- train-step "$@" \
    | tee -a "$out/table.txt"
}
: > "$out/table.txt"
"$bench" train-step --help > /dev/null
# The same weights and tokens: the first losses must agree.
"$python" "$forward" --config pythia-70m --batch 1 --seq 512 --steps 1 --warmup 0 --export "$out/weights" | tee "$out/first-loss.jsonl"
"$bench" train-step --config pythia-70m --batch 1 --seq 512 --steps 1 --warmup 0 \
  --weights "$out/weights" --ids "$out/weights/ids.safetensors" | tee -a "$out/first-loss.jsonl"
rm -r "$out/weights"
cross=(--cross-check)
versus train-70m-1x512 "$script --fused" --config pythia-70m --batch 1 --seq 512 --steps 6 --warmup 2
cross=()
versus train-70m-4x512 "$script --fused" --config pythia-70m --batch 4 --seq 512 --steps 3 --warmup 1
versus train-mini-16x256 "$script --fused" --config pythia-31m --hidden 256 --layers 4 --heads 4 --vocab 8192 \
  --batch 16 --seq 256 --steps 8 --warmup 2
versus forward-70m-1x512 "$forward" --config pythia-70m --batch 1 --seq 512 --steps 10 --warmup 2 --forward-only
