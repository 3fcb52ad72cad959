#!/usr/bin/env python3
"""Evaluation with PyTorch: forward and token cross-entropy of a GPT-NeoX (Pythia) model, without gradients.

Takes the options of `peer-bench train-step --forward-only` and prints one JSON line with the same fields.
With --export DIR it also writes its weights (a Hugging Face directory) and its token ids (DIR/ids.safetensors), so
that another program can start from the same ones: its first loss should agree with "first_loss".

    pip install torch transformers safetensors
    python torch_forward.py --config pythia-70m --batch 1 --seq 512 --steps 5 --export weights
"""
import argparse, json, os, resource, statistics, time

CONFIGS = {  # hidden, layers, heads, feed-forward
    "pythia-14m": (128, 6, 4, 512), "pythia-31m": (256, 6, 8, 1024), "pythia-70m": (512, 6, 8, 2048),
    "pythia-160m": (768, 12, 12, 3072), "pythia-410m": (1024, 24, 16, 4096), "pythia-1b": (2048, 16, 8, 8192)}

ap = argparse.ArgumentParser()
ap.add_argument("--config", choices=CONFIGS, default="pythia-70m")
for k in ("hidden", "layers", "heads", "ffn"):
    ap.add_argument("--" + k, type=int)
ap.add_argument("--vocab", type=int, default=50304)
ap.add_argument("--batch", type=int, default=2)
ap.add_argument("--accum", type=int, default=1)
ap.add_argument("--seq", type=int, default=512)
ap.add_argument("--steps", type=int, default=5)
ap.add_argument("--warmup", type=int, default=2)
ap.add_argument("--dtype", choices=("fp32", "bf16"), default="fp32")
ap.add_argument("--device", default="cpu")
ap.add_argument("--attn", choices=("sdpa", "eager"), default="sdpa")
ap.add_argument("--compile", action="store_true")
ap.add_argument("--forward-only", action="store_true", help="what this script does anyway")
ap.add_argument("--threads", type=int)
ap.add_argument("--peak", type=float)
ap.add_argument("--seed", type=int, default=0)
ap.add_argument("--export", metavar="DIR")
a = ap.parse_args()

import torch, transformers
import torch.nn.functional as F
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

if a.threads:
    torch.set_num_threads(a.threads)
torch.manual_seed(a.seed)
h, l, nh, ff = CONFIGS[a.config]
if a.hidden and not a.ffn:
    ff = 4 * a.hidden
h, l, nh, ff = a.hidden or h, a.layers or l, a.heads or nh, a.ffn or ff
cfg = GPTNeoXConfig(vocab_size=a.vocab, hidden_size=h, num_hidden_layers=l, num_attention_heads=nh, intermediate_size=ff,
                    rotary_pct=0.25, max_position_embeddings=max(2048, a.seq), attn_implementation=a.attn, use_cache=False)
model = GPTNeoXForCausalLM(cfg).to(a.device).eval()
ids = torch.randint(0, min(a.vocab, 50277), (a.accum, a.batch, a.seq), device=a.device)
if a.export:
    from safetensors.torch import save_file
    model.save_pretrained(a.export)
    save_file({"input_ids": ids.reshape(-1, a.seq).cpu().contiguous()}, os.path.join(a.export, "ids.safetensors"))
forward = torch.compile(model) if a.compile else model
cuda = a.device.startswith("cuda")
sync = torch.cuda.synchronize if cuda else (lambda: None)

seconds, losses = [], []
with torch.inference_mode():
    for s in range(a.warmup + a.steps):
        sync(); t0 = time.perf_counter(); loss = 0.0
        for m in range(a.accum):
            with torch.autocast(a.device.split(":")[0], dtype=torch.bfloat16, enabled=a.dtype == "bf16"):
                logits = forward(input_ids=ids[m]).logits
            loss += F.cross_entropy(logits[:, :-1].reshape(-1, a.vocab).float(), ids[m][:, 1:].reshape(-1)).item() / a.accum
        sync()
        losses.append(loss)
        if s >= a.warmup:
            seconds.append(time.perf_counter() - t0)
params = sum(p.numel() for p in model.parameters())
step, tokens = statistics.median(seconds), a.batch * a.seq * a.accum
flop = 2 * (params - a.vocab * h) + 4 * l * h * a.seq
print(json.dumps({
    "peer": "torch_forward", "config": a.config, "hidden": h, "layers": l, "heads": nh, "ffn": ff, "vocab": a.vocab,
    "params": params, "batch": a.batch, "accum": a.accum, "seq": a.seq, "dtype": a.dtype, "attn": a.attn,
    "compile": a.compile, "device": a.device, "threads": torch.get_num_threads(), "steps": a.steps,
    "median_step_s": round(step, 5), "min_step_s": round(min(seconds), 5), "max_step_s": round(max(seconds), 5),
    "tokens_per_s": round(tokens / step, 1), "tflop_per_s": round(flop * tokens / step / 1e12, 4),
    "mfu": round(flop * tokens / step / 1e12 / a.peak, 4) if a.peak else None,
    "peak_memory_mib": round((torch.cuda.max_memory_allocated() if cuda else
                              resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024) / 2**20),
    "first_loss": round(losses[0], 6), "torch": torch.__version__, "transformers": transformers.__version__}))
