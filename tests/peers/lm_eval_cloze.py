#!/usr/bin/env python3
"""Score multiple-choice items with EleutherAI's lm-evaluation-harness, without a network.

    pip install torch==2.15.0 transformers==5.24.0 tokenizers==0.23.3 lm-eval==0.4.13 accelerate
    python lm_eval_cloze.py MODEL_DIR ITEMS.jsonl --out OUT.json

MODEL_DIR   a folder that transformers loads: config.json, *.safetensors, tokenizer.json,
            tokenizer_config.json
ITEMS.jsonl one item a line: {"question": "...", "choices": ["...", ...], "gold": 0}
OUT.json    {"items": [{"item", "gold", "log_likelihoods": [...], "greedy": [...],
            "acc", "acc_norm", "acc_bytes"}, ...],
            "acc", "acc_norm", "acc_bytes" and their "_stderr",
            "versions": {...}}

The harness runs its own HFLM model on the CPU in float32 and a local task of the type
`multiple_choice`: the text of the question, the delimiter (one space unless told), the
text of the choice. The task is a YAML file written into a temporary folder and found by
the harness' own TaskManager; the items are read by `datasets` from a copy of ITEMS.jsonl
in the same folder, with its cache there too. The harness encodes question and choice together and the
question alone; what is longer than the model's positions loses tokens at the left. No
request leaves the machine: HF_HUB_OFFLINE, HF_DATASETS_OFFLINE and TRANSFORMERS_OFFLINE
are set before any import. ("fatal: not a git repository" comes from the harness, which
asks git for a commit to log; it does no harm.)

--check EXPECTED.json compares the log-likelihoods with the `harness_log_likelihoods` (or,
where an item has none, the `log_likelihoods`) of EXPECTED.json's `items`, and acc,
acc_norm, acc_bytes where they stand; exit status 1 if one is off by more than
--tolerance (1e-5).
"""
import argparse
import importlib.metadata
import json
import os
import shutil
import sys
import tempfile

# Before any import that could look at them.
for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
    os.environ[name] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

METRICS = ("acc", "acc_norm", "acc_bytes")
TASK = "cloze_local"


def read_items(path):
    """The items of the file, each checked as the harness' task needs it."""
    items = []
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            item = json.loads(line)
            choices, gold = item["choices"], item["gold"]
            if not (isinstance(item["question"], str) and choices and all(isinstance(c, str) and c for c in choices)):
                raise SystemExit(f"{path}:{number}: question and choices must be texts, and no choice empty")
            if not (isinstance(gold, int) and 0 <= gold < len(choices)):
                raise SystemExit(f"{path}:{number}: gold must be the number of a choice")
            items.append({"question": item["question"], "choices": choices, "gold": gold})
    if not items:
        raise SystemExit(f"{path}: no item")
    return items


def write_task(folder, items, delimiter):
    """The task file and the items that it names, both in `folder`."""
    data = os.path.join(folder, "items.jsonl")
    with open(data, "w", encoding="utf-8") as file:
        for item in items:
            file.write(json.dumps(item, ensure_ascii=False) + "\n")
    # JSON texts are YAML texts, so json.dumps quotes what could be special.
    lines = [f"task: {TASK}", "dataset_path: json", "dataset_kwargs:", "  data_files:", f"    test: {json.dumps(data)}",
             f"  cache_dir: {json.dumps(os.path.join(folder, 'cache'))}", "test_split: test", "output_type: multiple_choice",
             "doc_to_text: question", "doc_to_choice: choices", "doc_to_target: gold",
             f"target_delimiter: {json.dumps(delimiter)}", "num_fewshot: 0", "metric_list:"]
    for metric in METRICS:
        lines += [f"  - metric: {metric}", "    aggregation: mean", "    higher_is_better: true"]
    path = os.path.join(folder, f"{TASK}.yaml")
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")


def run(model_dir, items, delimiter, batch_size):
    """The answer of lm_eval.simple_evaluate for these items."""
    folder = tempfile.mkdtemp()
    try:
        write_task(folder, items, delimiter)
        import datasets
        datasets.config.HF_DATASETS_CACHE = os.path.join(folder, "cache")
        datasets.disable_progress_bars()
        import lm_eval
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager
        model = HFLM(pretrained=model_dir, tokenizer=model_dir, device="cpu", dtype="float32", batch_size=batch_size)
        # Only the task of this folder; the harness' own tasks are not even listed.
        tasks = TaskManager(include_path=folder, include_defaults=False)
        return lm_eval.simple_evaluate(model=model, tasks=[TASK], task_manager=tasks, log_samples=True, bootstrap_iters=0)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def collect(answer, items):
    """What is written: per item and choice from the samples, the means from the results."""
    results = answer["results"][TASK]

    def result(name):
        """A result is filed under "<metric>,<filter>"."""
        for key, value in results.items():
            if key == name or key.startswith(name + ","):
                return value
        return None

    out = {"items": []}
    samples = sorted(answer["samples"][TASK], key=lambda s: s["doc_id"])
    if [s["doc_id"] for s in samples] != list(range(len(items))):
        raise SystemExit("the harness did not return every item once")
    for number, (item, sample) in enumerate(zip(items, samples)):
        if sample["doc"]["question"] != item["question"]:
            raise SystemExit(f"item {number}: the harness returned another question")
        # One response per choice: [[log-likelihood, is it the greedy continuation]], which
        # the harness turns into texts when it logs samples.
        responses = [r[0] for r in sample["resps"]]
        if len(responses) != len(item["choices"]):
            raise SystemExit(f"item {number}: the harness returned {len(responses)} choices")
        out["items"].append({"item": number, "gold": item["gold"], "log_likelihoods": [float(r[0]) for r in responses],
                             "greedy": [str(r[1]) == "True" for r in responses], **{m: int(sample[m]) for m in METRICS}})
    for metric in METRICS:
        out[metric] = float(result(metric))
    for metric in METRICS:
        error = result(metric + "_stderr")
        out[metric + "_stderr"] = float(error) if isinstance(error, (int, float)) else None
    out["versions"] = {p: importlib.metadata.version(p) for p in ("lm-eval", "transformers", "torch", "tokenizers", "datasets")}
    return out


def check(out, path, tolerance):
    """The number of disagreements with the file `path`."""
    with open(path, encoding="utf-8") as file:
        want = json.load(file)
    wrong, worst = 0, 0.0
    if len(want["items"]) != len(out["items"]):
        print(f"{path} has {len(want['items'])} items, the run {len(out['items'])}", file=sys.stderr)
        return 1
    for got, item in zip(out["items"], want["items"]):
        expected = item.get("harness_log_likelihoods", item.get("log_likelihoods"))
        for choice, (a, b) in enumerate(zip(got["log_likelihoods"], expected, strict=True)):
            worst = max(worst, abs(a - b))
            if not abs(a - b) <= tolerance:
                print(f"item {got['item']} choice {choice}: {a} instead of {b}", file=sys.stderr)
                wrong += 1
        for metric in METRICS:
            if metric in item and int(item[metric]) != got[metric]:
                print(f"item {got['item']}: {metric} {got[metric]} instead of {item[metric]}", file=sys.stderr)
                wrong += 1
    for metric in METRICS:
        if metric in want and abs(want[metric] - out[metric]) > 1e-9:
            print(f"{metric} {out[metric]} instead of {want[metric]}", file=sys.stderr)
            wrong += 1
    print(f"largest difference of a log-likelihood: {worst:.3g}; {wrong} disagreements")
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("model", help="folder of the model and its tokenizer")
    parser.add_argument("items", help="JSON lines: question, choices, gold")
    parser.add_argument("--out", required=True, help="JSON file to write")
    parser.add_argument("--delimiter", default=" ", help="text between question and choice (default: one space)")
    parser.add_argument("--batch-size", type=int, default=3)
    parser.add_argument("--check", help="JSON file with the expected numbers")
    parser.add_argument("--tolerance", type=float, default=1e-5)
    args = parser.parse_args()

    items = read_items(args.items)
    out = collect(run(args.model, items, args.delimiter, args.batch_size), items)
    with open(args.out, "w", encoding="utf-8") as file:
        json.dump(out, file, indent=1)
        file.write("\n")
    print(f"{len(items)} items: " + ", ".join(f"{m} {out[m]:.6f}" for m in METRICS))
    return 1 if args.check and check(out, args.check, args.tolerance) else 0


if __name__ == "__main__":
    sys.exit(main())
