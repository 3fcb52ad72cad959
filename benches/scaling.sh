#!/usr/bin/env bash
# Step time per token as sequences grow: lines of peer-bench into OUT/raw.jsonl, and a plot (needs matplotlib).
#
#     benches/scaling.sh OUT [PYTHON]
set -euo pipefail
out=$1 python=${2:-python}
here=$(cd "$(dirname "$0")/.." && pwd)
bench=$here/target/release/peer-bench
mkdir -p "$out"
(cd "$here" && cargo build --release -p bench --bin peer-bench)
: > "$out/raw.jsonl"
for round in 1 2 3; do
  for seq in 512 1024 2048 4096; do
    for more in "" "--recompute"; do
      "$bench" train-step --config pythia-70m --batch 1 --seq "$seq" --steps 2 --warmup 1 $more | tee -a "$out/raw.jsonl"
    done
  done
done
"$python" "$here/benches/plot_scaling.py" "$out/raw.jsonl" "$out/scaling.png"
