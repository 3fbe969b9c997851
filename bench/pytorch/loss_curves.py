#!/usr/bin/env python3
"""Loss curves of Engine and of PEFT on the same text from the same adapter: do they lie on each other?

    python3 bench/pytorch/loss_curves.py --engine bundle/engine --model out/work/models/llama-1b --out out

The text is this repository's own (documentation and sources), one token a byte, cut into rows of --length, --batch rows a
step in one order for everyone. PEFT makes the adapter, whose file Engine goes on from; both train it with AdamW at torch's
defaults and a constant learning rate, the base in bf16, the adapter in f32. PEFT runs several times: with the attention that
PyTorch chooses (eager), with its plain one (math), and under torch.compile where --modes has it. How far these lie apart is
what bf16's rounding does to a run; Engine's curve has to be as near to PEFT's as they are to each other. Writes
OUT/loss-curves.json and OUT/loss-curves.svg."""

import argparse
import datetime
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent / "report"))
import plots  # noqa: E402

LABELS = {"engine": "Engine", "eager": "PEFT", "math": "PEFT, plain attention", "compile": "PEFT, torch.compile"}


def text_rows(rows, length):
    """That many rows of byte tokens from the repository's text, in the order of the files' names."""
    text = b""
    for pattern in ("*.md", "docs/*.md", "src/**/*.cs", "tests/**/*.cs"):
        for file in sorted(ROOT.glob(pattern)):
            if not {"bin", "obj"} & set(file.relative_to(ROOT).parts):
                text += file.read_bytes()
        if len(text) >= rows * length:
            break
    if len(text) < rows * length:
        sys.exit(f"loss_curves.py: the repository's text has {len(text)} bytes; {rows} rows of {length} take {rows * length}")
    return [list(text[i * length:(i + 1) * length]) for i in range(rows)]


def settings(options):
    return {"batch": options.batch, "length": options.length, "rank": options.rank, "targets": options.targets, "lr": options.lr}


def train_peft(mode, options):
    """Runs in a process of its own: prints the losses as JSON; without an adapter yet it makes one."""
    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    import peft
    import torch
    import transformers

    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        str(options.model), dtype=torch.bfloat16, attn_implementation="sdpa", device_map={"": 0})
    model.config.use_cache = False
    start = options.work / "initial-adapter"
    if (start / "adapter_config.json").exists():
        model = peft.PeftModel.from_pretrained(model, str(start), is_trainable=True)
    else:
        targets = "all-linear" if options.targets == "all-linear" else options.targets.split(",")
        model = peft.get_peft_model(model, peft.LoraConfig(
            task_type="CAUSAL_LM", r=options.rank, lora_alpha=2 * options.rank, lora_dropout=0.0, target_modules=targets,
            fan_in_fan_out=model.config.model_type == "gpt2"))
        model.save_pretrained(str(start))
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=options.lr)
    rows = torch.tensor(text_rows(options.steps * options.batch, options.length)).view(options.steps, options.batch, -1).cuda()
    backends = torch.nn.attention.SDPBackend
    forward = torch.compile(model) if mode == "compile" else model
    losses = []
    with torch.nn.attention.sdpa_kernel([backends.MATH] if mode == "math" else [backends.FLASH_ATTENTION, backends.EFFICIENT_ATTENTION, backends.MATH]):
        for ids in rows:
            loss = forward(input_ids=ids, labels=ids).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            losses.append(loss.detach())
    print(json.dumps({"losses": [float(loss) for loss in losses],
                      "versions": {m.__name__: m.__version__ for m in (torch, transformers, peft)}}))


def run(mode, options):
    """The losses of one run, from a process of its own, and the versions that it names."""
    if mode != "engine":
        arguments = [sys.executable, str(Path(__file__).resolve()), "--worker", mode, "--model", str(options.model), "--work", str(options.work),
                     "--steps", str(options.steps), *(part for k, v in settings(options).items() for part in (f"--{k}", str(v)))]
        result = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
        if result.returncode != 0:
            sys.exit(f"loss_curves.py: {mode} failed with {result.returncode}: {result.stderr.strip().splitlines()[-1:]}")
        answer = json.loads(result.stdout.strip().splitlines()[-1])
        return answer["losses"], answer["versions"]
    data, metrics, out = options.work / "rows.jsonl", options.work / "metrics.jsonl", options.work / "engine-adapter"
    with open(data, "w", encoding="utf-8") as file:
        for row in text_rows(options.steps * options.batch, options.length):
            file.write(json.dumps({"input_ids": row, "labels": row}) + "\n")
    metrics.unlink(missing_ok=True)
    # What a run that was stopped left would be resumed, or refused.
    shutil.rmtree(out, ignore_errors=True)
    arguments = [options.engine, "train", "--model", str(options.model), "--adapter", str(options.work / "initial-adapter"), "--data", str(data),
                 "--out", str(out), "--metrics", str(metrics), "--batch-size", str(options.batch), "--steps", str(options.steps),
                 "--lr", str(options.lr), "--no-shuffle", "--device", "cuda", "--quiet"]
    result = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    if result.returncode != 0:
        sys.exit(f"loss_curves.py: engine failed with {result.returncode}: {(result.stderr or result.stdout).strip()[-400:]}")
    lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [line["loss"] for line in lines if "loss" in line], {}


def distance(a, b):
    """Largest and mean difference of two curves, and that of their last tenths' means."""
    apart = [abs(x - y) for x, y in zip(a, b, strict=True)]
    tail = max(1, len(a) // 10)
    return {"largest": max(apart), "mean": sum(apart) / len(apart), "last_tenth": abs(sum(a[-tail:]) - sum(b[-tail:])) / tail}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="engine", help="the program")
    parser.add_argument("--model", type=Path, required=True, help="a model directory whose tokens 0 to 255 exist")
    parser.add_argument("--modes", default="eager,math,engine", help=f"of {', '.join(LABELS)}; eager comes first and makes the adapter")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--targets", default="all-linear")
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--work", type=Path, default=Path("out/work/curves"))
    parser.add_argument("--commit", default="unknown")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        train_peft(options.worker, options)
        return 0
    modes = options.modes.split(",")
    if modes[0] != "eager" or set(modes) - set(LABELS):
        parser.error(f"--modes is {options.modes}: eager comes first, then others of {', '.join(LABELS)}")
    options.work.mkdir(parents=True, exist_ok=True)
    options.out.mkdir(parents=True, exist_ok=True)
    for file in (options.work / "initial-adapter").glob("*"):
        file.unlink()
    curves, versions = {}, {}
    for mode in modes:
        curves[mode], found = run(mode, options)
        versions |= found
        print(f"{LABELS[mode]}: {curves[mode][0]:.4f} → {curves[mode][-1]:.4f}", flush=True)
    from compare import gpu
    apart = {mode: distance(curves[mode], curves["eager"]) for mode in modes[1:]}
    about = {"gpu": gpu(), "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"), "commit": options.commit,
             "versions": versions, "command": f"bench/pytorch/loss_curves.py --model {options.model.name} --steps {options.steps}"}
    report = {"about": about, "settings": {"model": options.model.name, "steps": options.steps, **settings(options)},
              "distance_to_peft": apart, "losses": curves}
    (options.out / "loss-curves.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    (options.out / "loss-curves.svg").write_text(
        plots.curves(f"Loss on this repository's text, {options.model.name}, LoRA rank {options.rank}", curves, LABELS, "step", "loss"), encoding="utf-8")
    for mode, d in apart.items():
        print(f"{LABELS[mode]} from PEFT: {d['mean']:.5f} on average, {d['largest']:.5f} at most, {d['last_tenth']:.5f} over the last tenth")
    return 0


if __name__ == "__main__":
    sys.exit(main())
