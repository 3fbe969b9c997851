#!/usr/bin/env python3
"""Engine against PEFT, one LoRA training step: processes that alternate in one session on one GPU.

    python3 bench/pytorch/compare.py --engine bundle/engine --out out

A case is a model, or a model at another batch and length: llama-1b:8x128. --sweep takes the models at 8,192 tokens of
several lengths and at 8x128, where launches are the bound, instead. Per case the order is engine, eager, compile, engine,
eager, ...: every mode --rounds times, but compile --compile-rounds times, since its first step takes a minute. Each figure
in the table is the median over a mode's rounds; the time to the first step is that of the first round, when torch.compile's
cache, which is made anew for the run, is empty. Writes OUT/train-step.json with every process's own result, and its report
(bench/report/train_report.py) as OUT/train-step.md and .html; logs, and models that are not there yet, go to WORK. What was
measured within --limit is kept. Two models with the default rounds take about five minutes.

MFU is model FLOPs a second over the GPU's nominal dense bf16 rate. Model FLOPs of a step: 4·P·tokens for the P weights of
frozen linears and head (forward, gradient of the input), 6·A·tokens for the A of the adapters, 6·batch·heads·length²·head
dim for causal attention; nothing that is computed again."""

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "report"))

# Batch, length, rank and targets are those of the project's recorded peers.
CASES = {
    "gpt2-medium": dict(batch=8, length=1024, rank=8, targets="c_attn"),
    "llama-1b": dict(batch=8, length=1024, rank=16, targets="all-linear"),
    "llama-8b": dict(batch=4, length=1024, rank=16, targets="all-linear"),
}
LENGTHS = ["64x128", "16x512", "8x1024", "2x4096", "8x128"]
# FLOP/s, dense, from NVIDIA's data sheets; the longer name first. A part of a GPU (MIG) has no rate here.
PEAKS = {"H100 PCIe": 756e12, "H100 NVL": 835e12, "H100": 989e12, "H200 NVL": 836e12, "H200": 989e12, "A100": 312e12}
LABELS = {"engine": "Engine", "eager": "PEFT eager", "compile": "PEFT + torch.compile"}
FIGURES = ["ms_per_step_median", "tokens_per_second", "peak_allocated_bytes", "peak_reserved_bytes"]


def case_of(name):
    """The settings of a case such as llama-1b or llama-1b:8x128; ValueError says what is wrong with it."""
    model, _, sizes = name.partition(":")
    if model not in CASES:
        raise ValueError(f"{name}: models are {', '.join(CASES)}")
    case = {"model": model, **CASES[model]}
    if sizes:
        batch, _, length = sizes.partition("x")
        if not batch.isdigit() or not length.isdigit() or int(batch) < 1 or int(length) < 2:
            raise ValueError(f"{name}: after the model come batch and length, such as {model}:8x128")
        case.update(batch=int(batch), length=int(length))
    return case


def model_flops(config, case, trained):
    """FLOPs that a LoRA step of a model with this config.json has to do; see the top."""
    tokens = case["batch"] * case["length"]
    if config["model_type"] == "gpt2":
        width, layers = config["n_embd"], config["n_layer"]
        linears, attended = 12 * width * width, width
    else:
        width, layers = config["hidden_size"], config["num_hidden_layers"]
        attended = config["num_attention_heads"] * config["head_dim"]
        keys = config["num_key_value_heads"] * config["head_dim"]
        linears = width * (2 * attended + 2 * keys) + 3 * width * config["intermediate_size"]
    weights = layers * linears + config["vocab_size"] * width
    return tokens * (4 * weights + 6 * trained) + 6 * layers * case["batch"] * case["length"] ** 2 * attended


def peak_of(name):
    """The nominal dense bf16 rate of a GPU by its name, or None."""
    words = (name or "").replace("-", " ").split()
    if "MIG" in words:
        return None
    return next((rate for gpu, rate in PEAKS.items() if any(words[i:i + len(gpu.split())] == gpu.split() for i in range(len(words)))), None)


def command(mode, model, case, options, result):
    sizes = ["--model", str(model), "--batch", str(case["batch"]), "--length", str(case["length"]), "--rank", str(case["rank"]),
             "--targets", case["targets"], "--steps", str(options.steps), "--json", str(result)]
    if mode == "engine":
        return [options.engine, "bench", "train", *sizes, "--dtype", "bf16", "--device", "cuda"]
    return [sys.executable, str(HERE / "train_step.py"), "--mode", mode, *sizes]


def run(mode, name, round_, options, environment):
    """One process; its result, or what went wrong."""
    label = f"{name.replace(':', '-')}-{mode}-{round_}"
    case = case_of(name)
    result, log = options.work / f"{label}.json", options.work / f"{label}.log"
    result.unlink(missing_ok=True)
    arguments = command(mode, options.work / "models" / case["model"], case, options, result)
    started = time.time()
    allowed = min(options.timeout, options.until - started)
    with open(log, "w", encoding="utf-8") as output:
        try:
            code = subprocess.run(arguments, stdout=output, stderr=subprocess.STDOUT, env=environment, timeout=allowed).returncode
        except subprocess.TimeoutExpired:
            code = f"none after {allowed:.0f} s"
        except OSError as error:
            code = str(error)
    entry = {"model": name, "mode": mode, "round": round_, "process_seconds": round(time.time() - started, 1)}
    try:
        entry["result"] = json.loads(result.read_text(encoding="utf-8"))
        shown = f"{entry['result']['ms_per_step_median']:.2f} ms"
    except (OSError, ValueError, KeyError):
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        entry["error"] = f"exit code {code}; no result; last line: {lines[-1] if lines else 'none'}"
        shown = entry["error"]
    if code != 0 and "error" not in entry:
        entry["error"] = shown = f"exit code {code}"
    print(f"{label}: {shown} ({entry['process_seconds']} s)", flush=True)
    return entry


def gpu():
    fields = ["name", "driver_version", "memory.total", "clocks.sm", "temperature.gpu"]
    try:
        line = subprocess.run(["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader"],
                              capture_output=True, text=True, check=True).stdout.splitlines()[0]
        return dict(zip(fields, map(str.strip, line.split(","))))
    except (OSError, subprocess.CalledProcessError, IndexError) as error:
        return {"error": str(error)}


def summaries(entries):
    """Per case and mode: the figures' medians over its rounds, and the first round's time to the first step."""
    result = {}
    for entry in entries:
        if "error" not in entry:
            result.setdefault(entry["model"], {}).setdefault(entry["mode"], []).append(entry["result"])
    return {model: {mode: {**{f: statistics.median(r[f] for r in rounds) for f in FIGURES}, "rounds": len(rounds),
                           "ms_per_step_of_rounds": [r["ms_per_step_median"] for r in rounds],
                           "seconds_to_first_step": rounds[0]["seconds_to_first_step"],
                           "first_and_last_loss": [rounds[0]["losses"][0], rounds[0]["losses"][-1]]}
                    for mode, rounds in modes.items()} for model, modes in result.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="engine", help="the program")
    parser.add_argument("--models", default="gpt2-medium,llama-1b", help=f"cases: of {', '.join(CASES)}, alone or with :BATCHxLENGTH")
    parser.add_argument("--sweep", action="store_true", help=f"each of the models at {', '.join(LENGTHS)}")
    parser.add_argument("--modes", default="engine,eager,compile")
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--work", type=Path, default=Path("out/work"))
    parser.add_argument("--steps", type=int, default=10, help="timed steps of each process")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--compile-rounds", type=int, default=1)
    parser.add_argument("--timeout", type=int, default=240, help="seconds for one process")
    parser.add_argument("--limit", type=int, default=10**9, help="seconds for all processes; one that runs at their end is stopped")
    parser.add_argument("--commit", default="unknown")
    options = parser.parse_args()
    options.until = time.time() + options.limit
    models, modes = options.models.split(","), options.modes.split(",")
    if options.sweep:
        models = [f"{m.partition(':')[0]}:{sizes}" for m in models for sizes in LENGTHS if not (m.startswith("gpt2") and sizes == "2x4096")]
    unknown = [m for m in modes if m not in LABELS]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; modes are {', '.join(LABELS)}")
    try:
        needed = sorted({case_of(m)["model"] for m in models})
    except ValueError as error:
        parser.error(str(error))
    options.out.mkdir(parents=True, exist_ok=True)
    options.work.mkdir(parents=True, exist_ok=True)
    missing = [m for m in needed if not (options.work / "models" / m / "config.json").exists()]
    if missing:
        subprocess.run([sys.executable, str(HERE / "make_model.py"), "--out", str(options.work / "models"),
                        *(part for m in missing for part in ("--shape", m))], check=True)
    device = gpu()
    entries = []
    with tempfile.TemporaryDirectory(prefix="compile-cache-") as cache:
        environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": f"{cache}/inductor", "TRITON_CACHE_DIR": f"{cache}/triton"}
        for model in models:
            for round_ in range(1, max(options.rounds, options.compile_rounds) + 1):
                for mode in modes:
                    wanted = round_ <= (options.compile_rounds if mode == "compile" else options.rounds)
                    if wanted and time.time() < options.until:
                        entries.append(run(mode, model, round_, options, environment))
                        # What a run that is stopped has measured until then is kept.
                        write(entries, device, models, options)
    write(entries, device, models, options)
    import train_report
    train_report.write([options.out / "train-step.json"], None, options.out)
    print((options.out / "train-step.md").read_text(encoding="utf-8"))
    return 1 if any("error" in e for e in entries) else 0


def write(entries, device, models, options):
    """Writes what has been measured as JSON."""
    versions = next((e["result"]["versions"] for e in entries if "versions" in e.get("result", {})), {})
    report = {"about": {"gpu": device, "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
                        "commit": options.commit, "versions": versions,
                        "command": f"bench/pytorch/compare.py --models {options.models}{' --sweep' if options.sweep else ''} --modes {options.modes} "
                        f"--steps {options.steps} --rounds {options.rounds} --compile-rounds {options.compile_rounds}"},
              "cases": {m: case_of(m) for m in models}, "summary": summaries(entries), "runs": entries}
    (options.out / "train-step.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
