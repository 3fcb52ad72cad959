#!/usr/bin/env python3
"""Milliseconds per token over sequence length, measured, and as attention's quadratic term predicts."""
import json, statistics, sys
import matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt

rows = [json.loads(line) for line in open(sys.argv[1])]
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
print("seq recompute ms/token peak_MiB GFLOP/s")
for recompute, label, colour in ((False, "kept activations", "C0"), (True, "recomputed blocks", "C1")):
    seqs = sorted({r["seq"] for r in rows if r["recompute"] == recompute})
    at = lambda s, f: statistics.median(f(r) for r in rows if r["seq"] == s and r["recompute"] == recompute)
    times = [at(s, lambda r: 1e3 * r["median_step_s"] / (r["seq"] * r["batch"])) for s in seqs]
    memory = [at(s, lambda r: r["peak_memory_mib"]) for s in seqs]
    for s, t, m in zip(seqs, times, memory):
        print(s, recompute, round(t, 3), m, round(1e3 * at(s, lambda r: r["tflop_per_s"]), 1))
    left.plot(seqs, times, "o-", color=colour, label=label)
    right.plot(seqs, memory, "o-", color=colour, label=label)
    if not recompute:
        # FLOPs per token: 6 per multiplied parameter, and attention's term, half of which the causal mask saves.
        r = next(r for r in rows if r["recompute"] == recompute)
        dense = 6 * (r["params"] - r["vocab"] * r["hidden"])
        cost = lambda s: dense + 6 * r["layers"] * r["hidden"] * s
        left.plot(seqs, [times[0] * cost(s) / cost(seqs[0]) for s in seqs], "k--", label="FLOPs, scaled to the first point")
left.set(xlabel="tokens of a sequence", ylabel="ms per token", title="Training step of Pythia-70m, f32, 2 cores")
right.set(xlabel="tokens of a sequence", ylabel="MiB", title="Peak memory of the process")
for axis in (left, right):
    axis.set_ylim(bottom=0)
    axis.grid(alpha=0.3)
    axis.legend()
fig.tight_layout()
fig.savefig(sys.argv[2], dpi=120)
