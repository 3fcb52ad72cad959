#!/usr/bin/env bash
# Layer x layer CKA beside PyTorch, in turn: benches/cka.sh OUT PYTHON PEERS
#   OUT     folder for what is printed
#   PYTHON  an interpreter with torch
#   PEERS   folder with torch_cka.py
set -euo pipefail
[ $# -eq 3 ] || { sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 2; }
out=$1 python=$2 peers=$3
cd "$(dirname "$0")/.."
cargo build --release -p bench --bin peer-bench
bench=target/release/peer-bench
mkdir -p "$out"
versus() { name=$1; shift; "$bench" versus --raw "$out/$name.jsonl" --peer "$python $peers/torch_cka.py" "$@" | tee "$out/$name.txt"; }

# Two states of a 70m model: 7 layers of 512 features. The script computes biased CKA, this program both estimators.
versus 4096 --rounds 7 -- cka --n 4096 --repeat 3
versus 20k --rounds 7 -- cka --n 20000 --repeat 1
versus 100k --rounds 3 -- cka --n 100000 --repeat 1
versus 20k-f64 --rounds 3 -- cka --n 20000 --repeat 1 --dtype f64

# Accuracy, memory, intervals.
"$bench" cka --n 20000 --repeat 1 --check | tee "$out/accuracy.jsonl"
"$bench" cka --n 2000 --repeat 3 --method gram --check | tee -a "$out/accuracy.jsonl"
for n in 8192 32768 131072; do "$bench" cka --n "$n" --held 2048 --repeat 1 | tee -a "$out/memory.jsonl"; done
"$bench" cka --n 20000 --repeat 1 --groups 10 | tee "$out/jackknife.jsonl"
