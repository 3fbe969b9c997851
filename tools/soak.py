#!/usr/bin/env python3
"""Trains for many steps and watches: the GPU's memory, the process's, and the time of a step have to stay where they are.

    python3 tools/soak.py --engine bundle/engine --model out/work/models/gpt2-medium --out out/gpu-soak.json

Samples the GPU's memory in use (nvidia-smi) and the process's resident memory once a second. The first --settle seconds, in
which the program starts and warms up, do not count. Ends with code 1 where the GPU's memory moved, the process's grew by more
than 2%, or the last tenth of the steps took more than 5% longer than the first (clocks fall a little as a GPU warms up)."""

import argparse
import datetime
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path


def gpu(field):
    line = subprocess.run(["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader,nounits"], capture_output=True, text=True, check=True)
    return line.stdout.splitlines()[0].strip()


def resident(pid):
    """MiB, or None when the process has ended."""
    try:
        line = next(line for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1024
    except (OSError, StopIteration):
        return None


def watched(pid):
    """The process that trains: the launcher's child, where the launcher is a script that has one."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return int(children[0]) if children else pid


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--settle", type=float, default=10)
    parser.add_argument("--commit", default="unknown")
    parser.add_argument("options", nargs="*", help="more options for engine bench train, after --")
    options = parser.parse_args()
    result = options.out.with_suffix(".run.json")
    command = [options.engine, "bench", "train", "--device", "cuda", "--model", options.model, "--steps", str(options.steps), *options.options]
    started, samples = time.time(), []
    with subprocess.Popen([*command, "--json", str(result), "--quiet"], stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            time.sleep(1)
            memory = resident(watched(process.pid)) if process.poll() is None else None
            if memory is not None and time.time() - started > options.settle:
                samples.append((round(time.time() - started, 1), int(gpu("memory.used")), round(memory, 1)))
    if process.returncode != 0 or len(samples) < 5:
        sys.exit(f"soak.py: {' '.join(command)} ended with {process.returncode} after {len(samples)} samples")
    run = json.loads(result.read_text(encoding="utf-8"))
    result.unlink()
    # The last sample may be of a process that is ending.
    samples = samples[:-1]
    on_gpu, host = [s[1] for s in samples], [s[2] for s in samples]
    tenth = max(1, len(run["ms_per_step_all"]) // 10)
    report = {
        "about": {"gpu": gpu("name"), "driver": gpu("driver_version"), "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
                  "commit": options.commit, "command": f"tools/soak.py --steps {options.steps} {' '.join(options.options)}".strip()},
        "model": run["model"], "steps": run["steps"], "seconds": round(time.time() - started, 1),
        "gpu_mib": {"least": min(on_gpu), "most": max(on_gpu)},
        "process_mib": {"first_tenth": statistics.median(host[:max(1, len(host) // 10)]), "last_tenth": statistics.median(host[-max(1, len(host) // 10):])},
        "ms_per_step": {"first_tenth": statistics.median(run["ms_per_step_all"][:tenth]), "last_tenth": statistics.median(run["ms_per_step_all"][-tenth:])},
        "loss": [run["losses"][0], run["losses"][-1]], "samples": samples,
    }
    options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    memory, times = report["process_mib"], report["ms_per_step"]
    flat = (max(on_gpu) == min(on_gpu) and memory["last_tenth"] <= 1.02 * memory["first_tenth"]
            and times["last_tenth"] <= 1.05 * times["first_tenth"])
    print(f"{run['steps']} steps in {report['seconds']} s: GPU {min(on_gpu)} to {max(on_gpu)} MiB, process {report['process_mib']['first_tenth']:.0f} → "
          f"{report['process_mib']['last_tenth']:.0f} MiB, {report['ms_per_step']['first_tenth']:.2f} → {report['ms_per_step']['last_tenth']:.2f} ms a step: "
          f"{'flat' if flat else 'NOT FLAT'}")
    return 0 if flat else 1


if __name__ == "__main__":
    sys.exit(main())
