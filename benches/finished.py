"""How long a start on a finished study takes, and what it reads: on real files, and on about a gigabyte of them.

    python3 benches/finished.py DATA SCRATCH

DATA holds one folder a role, as in the README; its files are unpacked, so that they can be repeated. Prints CSV: bytes of the
input files, seconds of a first run, seconds of a start on the finished study (the median of five), and by strace how many of the
input files and token stores that start opened. Needs the example table2, built, strace, and the zstd command.
"""

import glob
import gzip
import os
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TABLE2 = os.path.join(ROOT, "target/release/examples/table2")
ROLES = ["general", "starcoder", "sft/pycode", "sft/gsm8k", "probe"]
MORE = ["math", "flan", "knowledgeqa", "dclm", "sft/lima", "sft/sciq"]


def unpack(data, to, repeat):
    size = 0
    for role in ROLES + MORE:
        os.makedirs(os.path.join(to, role), exist_ok=True)
        for path in sorted(glob.glob(os.path.join(data, role, "*"))):
            name = os.path.basename(path)
            if name.endswith(".gz"):
                text, name = gzip.open(path).read(), name[:-3]
            elif name.endswith(".zst"):
                text, name = subprocess.run(["zstd", "-dc", path], check=True, capture_output=True).stdout, name[:-4]
            else:
                text = open(path, "rb").read()
            for i in range(repeat if role == "general" else 1):
                open(os.path.join(to, role, f"{i:03}-{name}"), "wb").write(text)
                size += len(text)
    return size


def spec(to, dir):
    text = open(os.path.join(ROOT, "tests/fixtures/tiny.toml")).read()
    head, rest = text.split("[data.generated]")
    rest = rest[rest.index("[tokenizer.bpe]") :]
    sources = "".join(f'[data.files.sources."{role}"]\nsets = [{{ files = ["{role}/*"] }}]\n' for role in ROLES + MORE)
    open(to, "w").write(f'{head}[data.files]\ndir = "{dir}"\n{sources}\n{rest}')


print("input_bytes,first_seconds,again_seconds,inputs_opened,stores_opened,bytes_read")
data, scratch = sys.argv[1:3]
for name, repeat in [("once", 1), ("repeated", int(os.environ.get("REPEAT", "60")))]:
    folder = os.path.join(scratch, f"finished-{name}")
    os.makedirs(folder)
    size = unpack(data, os.path.join(folder, "data"), repeat)
    spec(os.path.join(folder, "spec.toml"), os.path.join(folder, "data"))
    run = [TABLE2, "--spec", "spec.toml", "--store", "store", "--out", "out", "--quiet"]
    seconds = []
    for _ in range(6):
        started = time.time()
        subprocess.run(run, cwd=folder, check=True, capture_output=True)
        seconds.append(time.time() - started)
    trace = os.path.join(folder, "trace")
    subprocess.run(["strace", "-f", "-e", "trace=openat,read,pread64,mmap", "-o", trace] + run, cwd=folder, check=True, capture_output=True)
    lines = open(trace, errors="replace").read().splitlines()
    opened = lambda part: sum("openat(" in line and part in line and "O_DIRECTORY" not in line for line in lines)
    inputs = opened("/data/") - opened("store/data/")
    read = sum(int(line.rsplit("= ", 1)[1]) for line in lines if ("read(" in line or "pread64(" in line) and line.rsplit("= ", 1)[-1].isdigit())
    print(f"{size},{seconds[0]:.1f},{statistics.median(seconds[1:]):.3f},{inputs},{opened('.tokens')},{read}", flush=True)
