"""How two single-threaded jobs compare with one on two threads, by size of the model.

Reads the speeds that a plan measures and keeps in its store: `train CLASS@1` while two jobs run at once, `train CLASS@2` of one
that has the machine for itself. Prints CSV. Needs the example table2, built; run it on an idle machine.

    python3 benches/jobs.py > jobs.csv
"""

import glob
import json
import os
import subprocess
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TABLE2 = os.path.join(ROOT, "target/release/examples/table2")
# hidden size, layers, heads, vocabulary, tokens of a row, rows of a batch
MODELS = [
    (96, 2, 2, 256, 64, 8),
    (128, 4, 4, 256, 64, 8),
    (256, 4, 4, 512, 128, 8),
    (256, 6, 8, 2048, 256, 8),
    (512, 6, 8, 2048, 256, 8),
    (512, 6, 8, 50304, 512, 4),
    (768, 12, 12, 8192, 256, 8),
]


def measured(model, folder):
    hidden, layers, heads, vocabulary, time, rows = model
    text = open(os.path.join(ROOT, "tests/fixtures/tiny.toml")).read()
    changes = {
        "hidden_size = 32": f"hidden_size = {hidden}",
        "num_layers = 2": f"num_layers = {layers}",
        "num_heads = 2": f"num_heads = {heads}",
        "intermediate_size = 64": f"intermediate_size = {4 * hidden}",
        "vocab_size = 400\nhidden": f"vocab_size = {max(vocabulary, 400)}\nhidden",
        "time = 32": f"time = {time}",
        "batch = 8": f"batch = {rows}",
        "max_positions = 256": "max_positions = 512",
        "micro_tokens = 512": f"micro_tokens = {time * rows}",
        "general = 220": "general = 900",
        "specialised = 120": "specialised = 400",
        "max_epochs = 1.0": "max_epochs = 50.0",
    }
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    spec, store = os.path.join(folder, "spec.toml"), os.path.join(folder, "store")
    open(spec, "w").write(text)
    subprocess.run([TABLE2, "--spec", spec, "--store", store, "--jobs", "2", "--print-plan"], check=True, capture_output=True)
    speeds = json.load(open(glob.glob(os.path.join(store, "machines/*.json"))[0]))["measured"]
    key = next(k for k in speeds if k.startswith("train") and k.endswith(f" {max(time, 32)}@1"))
    speed = lambda k: speeds[k]["amount"] / speeds[k]["seconds"] / 1e9
    return 2 * speed(key), speed(key[:-1] + "2")


print("hidden,layers,vocabulary,time,rows,two_jobs_gflops,one_job_gflops,ratio")
for model in MODELS:
    for _ in range(3):
        with tempfile.TemporaryDirectory() as folder:
            two, one = measured(model, folder)
        hidden, layers, _, vocabulary, time, rows = model
        print(f"{hidden},{layers},{vocabulary},{time},{rows},{two:.1f},{one:.1f},{two / one:.3f}", flush=True)
