#!/usr/bin/env python3
"""Engine against PEFT, one LoRA training step: processes that alternate in one session on one GPU.

    python3 bench/pytorch/compare.py --engine bundle/engine --out out

Per model the order is engine, eager, compile, engine, eager, ...: every mode --rounds times, but compile --compile-rounds
times, since its first step takes a minute. Each figure in the table is the median over a mode's rounds; the time to the
first step is that of the first round, when torch.compile's cache, which is made anew for the run, is empty. Writes
OUT/train-step.json with every process's own result and OUT/train-step.md; logs, and models that are not there yet, go to
WORK. Two models with the default rounds take about five minutes."""

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

# Batch, length, rank and targets are those of the project's recorded peers.
CASES = {
    "gpt2-medium": dict(batch=8, length=1024, rank=8, targets="c_attn"),
    "llama-1b": dict(batch=8, length=1024, rank=16, targets="all-linear"),
    "llama-8b": dict(batch=4, length=1024, rank=16, targets="all-linear"),
}
LABELS = {"engine": "Engine", "eager": "PEFT eager", "compile": "PEFT + torch.compile"}
FIGURES = ["ms_per_step_median", "tokens_per_second", "peak_allocated_bytes", "peak_reserved_bytes"]


def command(mode, model, case, options, result):
    sizes = ["--model", str(model), "--batch", str(case["batch"]), "--length", str(case["length"]), "--rank", str(case["rank"]),
             "--targets", case["targets"], "--steps", str(options.steps), "--json", str(result)]
    if mode == "engine":
        return [options.engine, "bench", "train", *sizes, "--dtype", "bf16", "--device", "cuda"]
    return [sys.executable, str(HERE / "train_step.py"), "--mode", mode, *sizes]


def run(mode, name, round_, options, environment):
    """One process; its result, or what went wrong."""
    label = f"{name}-{mode}-{round_}"
    result, log = options.work / f"{label}.json", options.work / f"{label}.log"
    result.unlink(missing_ok=True)
    arguments = command(mode, options.work / "models" / name, CASES[name], options, result)
    started = time.time()
    with open(log, "w", encoding="utf-8") as output:
        try:
            code = subprocess.run(arguments, stdout=output, stderr=subprocess.STDOUT, env=environment, timeout=options.timeout).returncode
        except subprocess.TimeoutExpired:
            code = f"none after {options.timeout} s"
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
    """Per model and mode: the figures' medians over its rounds, and the first round's time to the first step."""
    result = {}
    for entry in entries:
        if "error" not in entry:
            result.setdefault(entry["model"], {}).setdefault(entry["mode"], []).append(entry["result"])
    return {model: {mode: {**{f: statistics.median(r[f] for r in rounds) for f in FIGURES}, "rounds": len(rounds),
                           "ms_per_step_of_rounds": [r["ms_per_step_median"] for r in rounds],
                           "seconds_to_first_step": rounds[0]["seconds_to_first_step"],
                           "first_and_last_loss": [rounds[0]["losses"][0], rounds[0]["losses"][-1]]}
                    for mode, rounds in modes.items()} for model, modes in result.items()}


def table(report):
    about, lines = report["about"], []
    versions = ", ".join(f"{k} {v}" for k, v in about["versions"].items())
    lines += [f"{about['gpu'].get('name')}, driver {about['gpu'].get('driver_version')}; {versions}; {about['date']}; "
              f"commit {about['commit']}. Written by `{about['command']}`.", "",
              "| model, batch | mode | ms/step | times Engine | tokens/s | peak GB allocated / reserved | first step s | loss, first → last |",
              "|---|---|---|---|---|---|---|---|"]
    for model, modes in report["summary"].items():
        case = CASES[model]
        own = modes.get("engine", {}).get("ms_per_step_median")
        for mode in (m for m in LABELS if m in modes):
            r = modes[mode]
            ratio = f"{r['ms_per_step_median'] / own:.2f}" if own else ""
            lines.append(
                f"| {model}, {case['batch']}×{case['length']}, {case['targets']} r {case['rank']} | {LABELS[mode]} "
                f"| {r['ms_per_step_median']:.2f} | {ratio} | {r['tokens_per_second']:,.0f} "
                f"| {r['peak_allocated_bytes'] / 1e9:.2f} / {r['peak_reserved_bytes'] / 1e9:.2f} "
                f"| {r['seconds_to_first_step']:.1f} | {r['first_and_last_loss'][0]:.4f} → {r['first_and_last_loss'][1]:.4f} |")
    for entry in report["runs"]:
        if "error" in entry:
            lines += ["", f"{entry['model']} {entry['mode']}, round {entry['round']}: {entry['error']}"]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="engine", help="the program")
    parser.add_argument("--models", default="gpt2-medium,llama-1b", help=f"of {', '.join(CASES)}")
    parser.add_argument("--modes", default="engine,eager,compile")
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--work", type=Path, default=Path("out/work"))
    parser.add_argument("--steps", type=int, default=10, help="timed steps of each process")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--compile-rounds", type=int, default=1)
    parser.add_argument("--timeout", type=int, default=240, help="seconds for one process")
    parser.add_argument("--commit", default="unknown")
    options = parser.parse_args()
    models, modes = options.models.split(","), options.modes.split(",")
    unknown = [m for m in models if m not in CASES] + [m for m in modes if m not in LABELS]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; models are {', '.join(CASES)}, modes are {', '.join(LABELS)}")
    options.out.mkdir(parents=True, exist_ok=True)
    options.work.mkdir(parents=True, exist_ok=True)
    missing = [m for m in models if not (options.work / "models" / m / "config.json").exists()]
    if missing:
        subprocess.run([sys.executable, str(HERE / "make_model.py"), "--out", str(options.work / "models"),
                        *(part for m in missing for part in ("--shape", m))], check=True)
    entries = []
    with tempfile.TemporaryDirectory(prefix="compile-cache-") as cache:
        environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": f"{cache}/inductor", "TRITON_CACHE_DIR": f"{cache}/triton"}
        for model in models:
            for round_ in range(1, max(options.rounds, options.compile_rounds) + 1):
                for mode in modes:
                    if round_ <= (options.compile_rounds if mode == "compile" else options.rounds):
                        entries.append(run(mode, model, round_, options, environment))
    versions = next((e["result"]["versions"] for e in entries if "versions" in e.get("result", {})), {})
    report = {"about": {"gpu": gpu(), "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
                        "commit": options.commit, "versions": versions,
                        "command": f"bench/pytorch/compare.py --models {options.models} --steps {options.steps}"},
              "cases": {m: CASES[m] for m in models}, "summary": summaries(entries), "runs": entries}
    (options.out / "train-step.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    text = table(report)
    (options.out / "train-step.md").write_text(text, encoding="utf-8")
    print(text)
    return 1 if any("error" in e for e in entries) else 0


if __name__ == "__main__":
    sys.exit(main())
