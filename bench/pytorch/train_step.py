#!/usr/bin/env python3
"""Times LoRA training steps of PEFT on a model directory and prints the figures as JSON.

    python3 bench/pytorch/train_step.py --model out/models/llama-1b --mode eager --batch 8 --length 1024 --rank 16

The model is bf16 with SDPA attention and no gradient checkpointing; the adapters are as PEFT makes them; the loss is
transformers' own (labels = tokens, mean over all shifted labels); the optimizer is torch.optim.AdamW with its defaults,
hence the foreach implementation. --mode compile wraps the model in torch.compile with its defaults; the optimizer stays
eager. A step's time is the time between the starts of consecutive steps on the device, so that the host may run ahead, as
it does in training; the wall time is that of all timed steps together."""

import os
import time


def seconds_since_process_start():
    with open("/proc/self/stat", encoding="ascii") as stat, open("/proc/uptime", encoding="ascii") as uptime:
        started = int(stat.read().rsplit(")", 1)[1].split()[19]) / os.sysconf("SC_CLK_TCK")
        return float(uptime.read().split()[0]) - started


os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import argparse
import json
import statistics
from pathlib import Path

import peft
import torch
import transformers

BATCHES = 4


def load(options):
    model = transformers.AutoModelForCausalLM.from_pretrained(
        str(options.model), dtype=torch.bfloat16, attn_implementation="sdpa", device_map={"": 0})
    model.config.use_cache = False
    if options.mode == "full":
        return model.train()
    targets = "all-linear" if options.targets == "all-linear" else options.targets.split(",")
    config = peft.LoraConfig(task_type="CAUSAL_LM", r=options.rank, lora_alpha=2 * options.rank, lora_dropout=0.0,
                             target_modules=targets, fan_in_fan_out=model.config.model_type == "gpt2")
    return peft.get_peft_model(model, config).train()


def measure(options):
    torch.manual_seed(0)
    model = load(options)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, model.config.vocab_size, (BATCHES, options.batch, options.length), generator=generator).cuda()
    forward = torch.compile(model) if options.mode == "compile" else model

    def step(i):
        ids = tokens[i % BATCHES]
        loss = forward(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    losses = [step(0)]
    torch.cuda.synchronize()
    first = seconds_since_process_start()
    losses += [step(i) for i in range(1, options.warmup)]
    torch.cuda.synchronize()
    events = [torch.cuda.Event(enable_timing=True) for _ in range(options.steps + 1)]
    started = time.perf_counter()
    events[0].record()
    for i in range(options.steps):
        losses.append(step(options.warmup + i))
        events[i + 1].record()
    torch.cuda.synchronize()
    wall = 1000 * (time.perf_counter() - started) / options.steps
    times = [a.elapsed_time(b) for a, b in zip(events, events[1:])]
    median = statistics.median(times)
    return {
        "ms_per_step_median": median, "ms_per_step_all": times, "ms_per_step_wall": wall,
        "tokens_per_second": 1000 * options.batch * options.length / median,
        "peak_allocated_bytes": torch.cuda.max_memory_allocated(), "peak_reserved_bytes": torch.cuda.max_memory_reserved(),
        "seconds_to_first_step": first, "losses": [float(loss) for loss in losses],
        "trained_parameters": sum(p.numel() for p in trained), "trained_dtype": str(trained[0].dtype).removeprefix("torch."),
        "model_dtype": "bfloat16", "attention": "sdpa", "optimizer": "torch.optim.AdamW, defaults (foreach)",
        "gpu": torch.cuda.get_device_name(),
        "versions": {m.__name__: m.__version__ for m in (torch, transformers, peft)},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--mode", choices=("eager", "compile", "full"), required=True,
                        help="full trains every weight, eagerly, without adapters")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--targets", default="all-linear", help="all-linear, or names separated by commas")
    parser.add_argument("--steps", type=int, default=10, help="timed steps")
    parser.add_argument("--warmup", type=int, default=3, help="steps before them")
    parser.add_argument("--json", type=Path, help="also write the result there")
    options = parser.parse_args()
    settings = {k: str(v) if isinstance(v, Path) else v for k, v in vars(options).items() if k != "json"}
    settings["model"] = options.model.name
    text = json.dumps({**settings, **measure(options)}, indent=1)
    print(text)
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
