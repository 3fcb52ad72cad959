#!/usr/bin/env python3
"""Train transformers' GPT-NeoX with PyTorch on a run's exported batches; its losses beside the run's own.

    pip install torch==2.15.0 transformers==5.24.0 safetensors==0.8.0 numpy
    midtrain export-batches runs/store/pretrain/KEY --steps 0..50 --out batches --weights
    python torch_on_batches.py batches

The folder holds what `midtrain export-batches` writes:

    step-000000000.safetensors, ...: one file a step with
        input_ids  I32 [rows, T]
        targets    I32 [rows, T]   already shifted: targets[r, t] is what position t has
                                   to predict; -100 = no target
        sources    U16 [rows]      not used
    recipe.json    {"first_step": 0, "lr": [rate of step 0, of step 1, ...], "beta1": 0.9, "beta2": 0.95,
                    "eps": 1e-8, "weight_decay": 0.1, "decay": "all" | "matrices", "clip": 1.0,
                    "micro_tokens": 4096}
    weights/       the weights before the first step, a Hugging Face directory
    losses.csv     step,loss,grad_norm,lr of the run itself, where its store holds its log

A file that holds document_starts is refused: attention kept within documents is not something this script does.
torch.csv is written beside: step,loss,grad_norm,lr with all digits. Then both are printed side by side, and the exit
status is 1 where a loss differs by more than --tolerance.

What one step does, all in float32 on the CPU, eager attention, no dropout:

  * loss = (sum of the token losses of all rows) / (number of targets of the whole step).
    The rows are taken in order in micro-batches of max(1, micro_tokens // T) rows; each adds
    the gradient of its own sum / that same number. Logged: the loss before the update.
  * grad_norm = global 2-norm over the gradients of all parameters, before clipping.
  * clip: gradients times min(1, clip / (grad_norm + 1e-6)), which is
    torch.nn.utils.clip_grad_norm_. No clipping where clip is null.
  * torch.optim.AdamW with the step's rate. Decay is decoupled: the weight is first
    multiplied by 1 - lr * weight_decay. "all" decays every parameter, "matrices" those of more than one dimension.

With tied embeddings the one matrix counts once. --save writes the final weights
(model.state_dict(), F32: the output matrix is lm_head.weight) as a safetensors file. --threads sets torch's threads; the
sums depend on it in their last digits.
"""
import argparse
import csv
import json
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoConfig, GPTNeoXForCausalLM

IGNORED = -100
SPEC_KEYS = {"first_step", "lr", "beta1", "beta2", "eps", "weight_decay", "decay", "clip", "micro_tokens"}


def read_spec(path):
    """The options of the run; unknown and missing keys are refused."""
    with open(path, encoding="utf-8") as file:
        spec = json.load(file)
    if set(spec) != SPEC_KEYS:
        raise SystemExit(f"{path}: missing {sorted(SPEC_KEYS - set(spec))}, unknown {sorted(set(spec) - SPEC_KEYS)}")
    if spec["decay"] not in ("all", "matrices"):
        raise SystemExit(f"{path}: decay must be 'all' or 'matrices'")
    if not isinstance(spec["lr"], list) or not spec["lr"]:
        raise SystemExit(f"{path}: lr must be the list of the rates, one a step")
    if spec["first_step"] != 0:
        raise SystemExit(f"{path}: first_step must be 0: weights are those of the first step")
    if spec["micro_tokens"] < 1:
        raise SystemExit(f"{path}: micro_tokens must be positive")
    return spec


def read_step(folder, step, vocab):
    """Input ids and targets, int64 [rows, T], of one step."""
    path = os.path.join(folder, f"step-{step:09}.safetensors")
    if not os.path.exists(path):
        raise SystemExit(f"{path} is missing")
    with safe_open(path, framework="np") as file:
        names = set(file.keys())
        if "document_starts" in names:
            raise SystemExit(f"{path}: document_starts: attention kept within documents is not done here")
        if not {"input_ids", "targets"} <= names:
            raise SystemExit(f"{path}: input_ids or targets is missing")
        arrays = [file.get_tensor(n) for n in ("input_ids", "targets")]
    for name, array in zip(("input_ids", "targets"), arrays):
        if array.dtype != np.int32 or array.ndim != 2 or array.shape != arrays[0].shape:
            raise SystemExit(f"{path}: {name} must be I32 [rows, T], both of one shape")
    ids, targets = (torch.from_numpy(a.astype(np.int64)) for a in arrays)
    if ids.min() < 0 or ids.max() >= vocab:
        raise SystemExit(f"{path}: an input id is outside the vocabulary of {vocab}")
    if ((targets != IGNORED) & ((targets < 0) | (targets >= vocab))).any():
        raise SystemExit(f"{path}: a target is neither {IGNORED} nor in the vocabulary of {vocab}")
    if not (targets != IGNORED).any():
        raise SystemExit(f"{path}: no target")
    return ids, targets


def load(folder):
    """The model in float32 with eager attention; every weight must come from the files."""
    config = AutoConfig.from_pretrained(folder)
    # Set on the config before the model is built: the modules copy the numbers.
    for name in ("hidden_dropout", "attention_dropout"):
        if getattr(config, name, 0.0):
            print(f"{name} {getattr(config, name)} is not used: no dropout", file=sys.stderr)
            setattr(config, name, 0.0)
    model, info = GPTNeoXForCausalLM.from_pretrained(folder, config=config, dtype=torch.float32, attn_implementation="eager",
                                                     output_loading_info=True)
    if info["missing_keys"] or info["mismatched_keys"]:
        raise SystemExit(f"{folder}: not in the files: {sorted(info['missing_keys'])}, of another shape: {info['mismatched_keys']}")
    if info["unexpected_keys"]:
        print(f"in the files but not used: {sorted(info['unexpected_keys'])}", file=sys.stderr)
    model.train()           # as in training; all dropout rates are 0
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    return model


def optimizer(model, spec):
    """AdamW over every parameter of the model, in one or two groups."""
    parameters = list(model.parameters())           # a tied matrix is listed once
    if spec["decay"] == "all":
        groups = [{"params": parameters, "weight_decay": spec["weight_decay"]}]
    else:
        groups = [{"params": [p for p in parameters if p.ndim > 1], "weight_decay": spec["weight_decay"]},
                  {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0}]
    held = [id(p) for g in groups for p in g["params"]]
    if sorted(held) != sorted(id(p) for p in parameters):
        raise SystemExit("a parameter is in no group or in two")
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=spec["lr"][0], betas=(spec["beta1"], spec["beta2"]), eps=spec["eps"])


def train(model, spec, batches, write):
    """All steps; `write` gets (step, loss, gradient norm, rate)."""
    adamw = optimizer(model, spec)
    parameters = list(model.parameters())
    vocab = model.config.vocab_size
    for step, rate in enumerate(spec["lr"]):
        ids, targets = read_step(batches, step, vocab)
        count = int((targets != IGNORED).sum())
        rows = max(1, spec["micro_tokens"] // ids.shape[1])
        adamw.zero_grad(set_to_none=True)
        total = 0.0                                  # sum of the token losses, added up in float64
        for start in range(0, len(ids), rows):
            logits = model(input_ids=ids[start:start + rows], use_cache=False).logits
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets[start:start + rows].flatten(),
                                                     ignore_index=IGNORED, reduction="sum")
            (loss / count).backward()
            total += loss.item()
        if any(p.grad is None for p in parameters):
            raise SystemExit("a parameter has no gradient")
        # With an infinite limit clip_grad_norm_ only measures.
        limit = float("inf") if spec["clip"] is None else spec["clip"]
        norm = torch.nn.utils.clip_grad_norm_(parameters, limit, norm_type=2.0, foreach=False).item()
        for group in adamw.param_groups:
            group["lr"] = rate
        adamw.step()
        write(step, total / count, norm, rate)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", help="what midtrain export-batches --weights wrote")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="largest difference of a loss, in nats")
    parser.add_argument("--save", help="safetensors file for the final weights")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    inside = lambda name: os.path.join(args.folder, name)
    spec = read_spec(inside("recipe.json"))
    further = os.path.join(args.folder, f"step-{len(spec['lr']):09}.safetensors")
    if os.path.exists(further):
        print(f"{len(spec['lr'])} rates: {further} and later files are not used", file=sys.stderr)
    model = load(inside("weights"))
    with open(inside("torch.csv"), "w", newline="", encoding="utf-8") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(["step", "loss", "grad_norm", "lr"])

        def write(step, loss, norm, rate):
            out.writerow([step, repr(loss), repr(norm), repr(float(rate))])
            file.flush()

        train(model, spec, args.folder, write)
    if args.save:
        # A tied matrix is stored once, under the name of the first use.
        seen, tensors = set(), {}
        for name, tensor in model.state_dict().items():
            if tensor.data_ptr() not in seen:
                seen.add(tensor.data_ptr())
                tensors[name] = tensor.detach().contiguous()
        save_file(tensors, args.save, metadata={"format": "pt"})
    return beside(inside("losses.csv"), inside("torch.csv"), args.tolerance)


def beside(ours, theirs, tolerance):
    """Both runs' losses and norms, step by step; 1 where a loss is further apart than the tolerance."""
    if not os.path.exists(ours):
        print("no losses.csv: there is nothing to compare with", file=sys.stderr)
        return 0
    with open(ours, encoding="utf-8") as a, open(theirs, encoding="utf-8") as b:
        pairs = list(zip(csv.DictReader(a), csv.DictReader(b)))
    print(f"{'step':>5} {'ours':>12} {'PyTorch':>12} {'difference':>11} {'norm':>10} {'PyTorch':>10}")
    worst = 0.0
    for mine, other in pairs:
        if mine["step"] != other["step"]:
            raise SystemExit(f"{ours}: step {mine['step']} where step {other['step']} is expected")
        loss, reference = float(mine["loss"]), float(other["loss"])
        worst = max(worst, abs(loss - reference))
        norms = float(mine["grad_norm"]), float(other["grad_norm"])
        print(f"{mine['step']:>5} {loss:12.7f} {reference:12.7f} {loss - reference:11.1e} {norms[0]:10.5f} {norms[1]:10.5f}")
    print(f"{len(pairs)} steps, largest difference of a loss {worst:.1e} nats (tolerance {tolerance:.0e})")
    return 0 if pairs and worst <= tolerance else 1


if __name__ == "__main__":
    sys.exit(main())
