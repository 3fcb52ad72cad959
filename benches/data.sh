#!/usr/bin/env bash
# Tokenising and counting beside other software, in turn: benches/data.sh OUT PYTHON PEERS TOKENIZER JSONL
#   OUT        folder for what is printed
#   PYTHON     an interpreter with tokenizers and numpy
#   PEERS      folder with hf_tokenize.py and numpy_proximity.py
#   TOKENIZER  a tokenizer.json
#   JSONL      a .jsonl file with a field "text"
set -euo pipefail
[ $# -eq 5 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 2; }
out=$1 python=$2 peers=$3 tokenizer=$4 jsonl=$5
cd "$(dirname "$0")/.."
cargo build --release -p bench --bin peer-bench
cargo build --release --bin midtrain
bench=target/release/peer-bench
mkdir -p "$out"
versus() { name=$1; shift; "$bench" versus --raw "$out/$name.jsonl" "$@" | tee "$out/$name.txt"; }

# The tokenizers crate alone, on texts in memory; then its Python package.
versus encode-batch --rounds 7 --peer "$bench tokenize --encode-only" -- \
  tokenize "$tokenizer" "$jsonl" --limit 0 --threads 2 --repeat 1
versus python --rounds 5 --peer "$python $peers/hf_tokenize.py" -- \
  tokenize "$tokenizer" "$jsonl" --limit 4000 --threads 2 --repeat 1

# 2 x 100 M tokens of two bytes.
"$python" "$peers/numpy_proximity.py" --make 100000000 "$out/a.bin" "$out/b.bin" > /dev/null
for workers in 1 2; do
  versus "count-$workers" --rounds 5 --peer "$python $peers/numpy_proximity.py" -- \
    count "$out/a.bin" "$out/b.bin" --workers "$workers"
done
rm "$out/a.bin" "$out/b.bin"

# Memory at 250 MB and 1 GB of the same text, again and again.
size=$(stat -c %s "$jsonl")
for megabytes in 250 1000; do
  for _ in $(seq $((megabytes * 1000000 / size))); do cat "$jsonl"; done > "$out/big.jsonl"
  /usr/bin/time -v target/release/midtrain tokenize --quiet --tokenizer "$tokenizer" --out "$out/store" \
    "$out/big.jsonl" 2> "$out/memory-$megabytes.txt"
  grep "Maximum resident" "$out/memory-$megabytes.txt"
  rm -r "$out/store" "$out/big.jsonl"
done
