#!/usr/bin/env python3
"""PyTorch's side of the LoRA bench: a linear layer with an adapter, merges and batches that mix adapters, in bf16.

    python3 bench/pytorch/lora_linear.py --shapes 8192x4096x4096,16x4096x4096 --ranks 8,16 --json lora-torch.json

lora_bench.py, which is the command to run, keeps one such process and asks it for a shape at a time (--serve: a line of JSON
in, a line of JSON out). Candidates, of which the first of each mode is what the others are compared with:

  linear  bare (frozen product; with backward also the product for the inputs' gradient), PEFT's layer, PEFT's form written
          out and captured, addmm (by hand, in place, no autograd), torch.compile of PEFT's layer (where COMPILED says)
  merge   copy (same size), addmm_, PEFT (get_delta_weight and +=)
  mixed   bare, PEFT (adapter_names), bmm (by hand, rows sorted by adapter)

"graph" in a name: captured in a CUDA graph. "bare", "copy", "addmm_" and "bmm graph" are captured too: what the device needs.
Without a graph the host launches as it does for a user, and where it is slower than the device its time is what counts.
A sample is a chain of calls over several sets of inputs, more of them than the L2 cache holds, as on Engine's side; the
compiled layer is one, of which only the activations change."""

import argparse
import gc
import json
import os
import statistics
import sys
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")

import lora_timing as timing

SHAPES = {
    "linear": "8192x1024x1024,8192x4096x4096,8192x4096x14336,8192x14336x4096,2048x4096x4096,16x4096x4096,1x4096x4096",
    "merge": "4096x4096,14336x4096,8192x28672", "mixed": "64x4096x4096x64,64x4096x4096x8",
}
RANKS = {"linear": "1,8,16,64,256", "merge": "8,16,64", "mixed": "16"}

# torch.compile takes seconds for each shape and mode: these only, and no more once COMPILE_SECONDS are spent.
COMPILED = {"ranks": [16], "least_rows": 2048}
COMPILE_SECONDS = 60.0
SCALING = 2.0
FORWARD, BOTH = "forward", "forward+backward"


class Linears:
    """Linear layers of one shape, adapted by PEFT, with random weights in bf16."""

    def __init__(self, count, inputs, outputs, rank, adapters=("default",)):
        import peft
        import torch
        import transformers  # noqa: F401  peft needs it anyway; here so that its time is not counted elsewhere

        class Layers(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.linears = torch.nn.ModuleList(
                    torch.nn.Linear(inputs, outputs, bias=False, device="cuda", dtype=torch.bfloat16) for _ in range(count))

        config = peft.LoraConfig(r=rank, lora_alpha=SCALING * rank, lora_dropout=0.0, target_modules=r"linears\.\d+")
        model = peft.get_peft_model(Layers(), config, adapter_name=adapters[0], autocast_adapter_dtype=False)
        for name in adapters[1:]:
            model.add_adapter(name, config)
        # PEFT likes adapters of a bf16 model in fp32 and casts activations each time: slower than what is compared here.
        model.to(torch.bfloat16).eval()
        self.layers = list(model.base_model.model.linears)
        for layer in self.layers:
            if not isinstance(layer, peft.tuners.lora.layer.Linear):
                raise TypeError(f"PEFT made {type(layer)} of a linear layer")
            for name in adapters:
                for weight in (layer.base_layer.weight, layer.lora_A[name].weight, layer.lora_B[name].weight):
                    if weight.dtype != torch.bfloat16:
                        raise TypeError(f"PEFT holds weights in {weight.dtype}; expected bf16")
                    weight.data.normal_(0, 0.02)  # B too: products with zeros draw less power and clock higher


def linear_case(shape, rank, compiled):
    """Calls of a linear layer: {mode: [Candidate]}."""
    import torch
    from torch.nn import functional as F

    rows, inputs, outputs = shape
    plan = timing.Plan.of(rows * inputs * outputs * 2, 2 * (inputs * outputs + rows * (inputs + outputs)))
    layers = Linears(plan.sets, inputs, outputs, rank).layers
    sets = []
    for layer in layers:
        x, dy = timing.normal(rows, inputs), timing.normal(rows, outputs)
        sets.append((layer, layer.base_layer.weight, layer.lora_A["default"].weight, layer.lora_B["default"].weight,
                     x, x.clone().requires_grad_(), dy))

    def form(x, w, a, b):
        return F.linear(x, w) + F.linear(F.linear(x, a), b) * SCALING

    def addmm(w, a, b, x):
        s = F.linear(x, a).mul_(SCALING)
        return F.linear(x, w).addmm_(s, b.t()), s

    def addmm_both(w, a, b, x, dy):
        _, s = addmm(w, a, b, x)
        ds = (dy @ b).mul_(SCALING)
        return (dy @ w).addmm_(ds, a), ds.t() @ x, dy.t() @ s

    def grads(y, x, a, b, dy):
        return torch.autograd.grad(y, (x, a, b), dy)

    quiet = torch.no_grad()
    forward = [
        timing.Candidate("bare", lambda i: F.linear(sets[i][4], sets[i][1]), graph=True, context=quiet),
        timing.Candidate("bare eager", lambda i: F.linear(sets[i][4], sets[i][1]), context=quiet),
        timing.Candidate("PEFT", lambda i: sets[i][0](sets[i][4]), context=quiet),
        timing.Candidate("PEFT graph", lambda i: form(sets[i][4], *sets[i][1:4]), graph=True, context=quiet),
        timing.Candidate("addmm", lambda i: addmm(*sets[i][1:5]), context=quiet),
        timing.Candidate("addmm graph", lambda i: addmm(*sets[i][1:5]), graph=True, context=quiet),
    ]

    def bare_both(i):
        return F.linear(sets[i][4], sets[i][1]), sets[i][6] @ sets[i][1]

    def peft_both(i):
        layer, _, a, b, _, x, dy = sets[i]
        return grads(layer(x), x, a, b, dy)

    def form_both(i):
        _, w, a, b, _, x, dy = sets[i]
        return grads(form(x, w, a, b), x, a, b, dy)

    def by_hand(i):
        _, w, a, b, x, _, dy = sets[i]
        return addmm_both(w, a, b, x, dy)

    both = [
        timing.Candidate("bare", bare_both, graph=True, context=quiet),
        timing.Candidate("bare eager", bare_both, context=quiet),
        timing.Candidate("PEFT", peft_both),
        timing.Candidate("PEFT graph", form_both, graph=True),
        timing.Candidate("addmm", by_hand, context=quiet),
        timing.Candidate("addmm graph", by_hand, graph=True, context=quiet),
    ]
    if compiled is not None:
        layer, call = compiled.of(shape, rank, sets[0][0])
        a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        forward += compiled.candidates(shape, rank, FORWARD, lambda i: call(sets[i][4]), quiet)
        both += compiled.candidates(shape, rank, BOTH, lambda i: grads(call(sets[i][5]), sets[i][5], a, b, sets[i][6]), None)
    return plan, {FORWARD: forward, BOTH: both}


class Compiled:
    """Compiled layers, kept from round to round; new ones as long as there is time."""

    def __init__(self, seconds):
        self.left, self.seconds, self.layers = seconds, {}, {}

    def of(self, shape, rank, layer):
        import torch

        if (shape, rank) not in self.layers:
            for limit in ("recompile_limit", "cache_size_limit"):  # the name changed; all layers share one code object
                if hasattr(torch._dynamo.config, limit):
                    setattr(torch._dynamo.config, limit, 256)
            self.layers[shape, rank] = (layer, torch.compile(layer, dynamic=False))
        return self.layers[shape, rank]

    def candidates(self, shape, rank, mode, call, context):
        import torch

        key = f"{'x'.join(map(str, shape))} r {rank} {mode}"
        if key not in self.seconds:
            if self.left <= 0:
                return []
            begin = time.monotonic()
            timing.Candidate("compile", call, context=context).prepare(timing.Plan(1, 1))
            torch.cuda.synchronize()
            self.seconds[key] = round(time.monotonic() - begin, 2)
            self.left -= self.seconds[key]
        return [timing.Candidate("compile", call, context=context),
                timing.Candidate("compile graph", call, graph=True, context=context)]


def merge_case(shape, rank):
    import torch

    outputs, inputs = shape
    plan = timing.Plan.of(0, 2 * inputs * outputs)
    layers = Linears(plan.sets, inputs, outputs, rank).layers
    weights = [layer.base_layer.weight.data for layer in layers]
    factors = [(layer.lora_B["default"].weight.data, layer.lora_A["default"].weight.data) for layer in layers]
    copies = [torch.empty_like(w) for w in weights]

    def peft(i):
        layers[i].base_layer.weight.data += layers[i].get_delta_weight("default")

    quiet = torch.no_grad()
    return plan, {"merge": [
        timing.Candidate("copy", lambda i: copies[i].copy_(weights[i]), graph=True, context=quiet),
        # The same small scale as on Engine's side: merged again and again, the weights stay in their range.
        timing.Candidate("addmm_", lambda i: weights[i].addmm_(*factors[i], alpha=1e-3), graph=True, context=quiet),
        timing.Candidate("PEFT", peft, context=quiet),
        timing.Candidate("PEFT graph", peft, graph=True, context=quiet),
    ]}


def mixed_case(shape, rank):
    import torch
    from torch.nn import functional as F

    rows, inputs, outputs, adapters = shape
    adapters = min(adapters, rows)
    names = [f"a{i}" for i in range(adapters)]
    of_rows = [names[i * adapters // rows] for i in range(rows)]
    plan = timing.Plan.of(rows * inputs * outputs * 2, 2 * (inputs * outputs + rows * (inputs + outputs)))
    sets = []
    for layer in Linears(plan.sets, inputs, outputs, rank, names).layers:
        down = torch.stack([layer.lora_A[n].weight.data.t() for n in names]).contiguous()
        up = torch.stack([layer.lora_B[n].weight.data.t() for n in names]).contiguous()
        sets.append((layer, layer.base_layer.weight, timing.normal(rows, 1, inputs), down, up))

    def bmm(i):
        _, w, x, down, up = sets[i]
        x = x.view(adapters, rows // adapters, inputs)
        return F.linear(x, w).baddbmm_(torch.bmm(x, down), up, alpha=SCALING)

    quiet = torch.no_grad()
    candidates = [
        timing.Candidate("bare", lambda i: F.linear(sets[i][2], sets[i][1]), graph=True, context=quiet),
        timing.Candidate("PEFT", lambda i: sets[i][0](sets[i][2], adapter_names=of_rows), context=quiet),
    ]
    if rows % adapters == 0:
        candidates.append(timing.Candidate("bmm graph", bmm, graph=True, context=quiet))
    return plan, {FORWARD: candidates}


def extents(text):
    return tuple(int(part) for part in text.split("x"))


def measure(request, compiled):
    """The cases of one request: kind, shapes, ranks, rounds, samples."""
    import torch

    kind, cases = request["kind"], []
    for shape in map(extents, request["shapes"]):
        for rank in request["ranks"]:
            if kind == "linear":
                use = compiled if rank in COMPILED["ranks"] and shape[0] >= COMPILED["least_rows"] else None
                plan, modes = linear_case(shape, rank, use)
            else:
                plan, modes = (merge_case if kind == "merge" else mixed_case)(shape, rank)
            rows, inputs, outputs = (0, shape[1], shape[0]) if kind == "merge" else shape[:3]
            for mode, candidates in modes.items():
                cases.append({
                    "kind": kind, "rows": rows, "inputs": inputs, "outputs": outputs, "rank": rank,
                    "adapters": min(shape[3], rows) if kind == "mixed" else 1, "mode": mode, "sets": plan.sets, "calls": plan.calls,
                    "results": timing.run(candidates, plan, request["rounds"], request["samples"])})
            del modes, candidates
            torch.cuda.empty_cache()  # Engine's process needs room in its turn
    return cases


def about():
    import peft
    import torch
    import transformers

    gc.freeze()  # capturing a graph collects garbage each time: what the libraries made need not be looked through again
    return {"side": "torch", "gpu": torch.cuda.get_device_name(), "dtype": "bf16",
            "versions": {m.__name__: m.__version__ for m in (torch, transformers, peft)}}


def serve(compiled):
    # What libraries print goes to the other stream: this one is for answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    print(json.dumps(about()), file=answers, flush=True)
    for line in sys.stdin:
        try:
            answer = {"cases": measure(json.loads(line), compiled), "compile_seconds": compiled.seconds}
        except Exception as error:  # the session goes on with the next shape
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=SHAPES, default="linear")
    parser.add_argument("--shapes", help="separated by commas")
    parser.add_argument("--ranks", help="separated by commas")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=5)
    parser.add_argument("--compile-seconds", type=float, default=COMPILE_SECONDS, help="no new shape is compiled after them")
    parser.add_argument("--json", help="also write the result there")
    parser.add_argument("--serve", action="store_true", help="requests from standard input")
    options = parser.parse_args()
    compiled = Compiled(options.compile_seconds)
    if options.serve:
        serve(compiled)
        return
    request = {"kind": options.kind, "shapes": (options.shapes or SHAPES[options.kind]).split(","), "rounds": options.rounds,
               "ranks": [int(r) for r in (options.ranks or RANKS[options.kind]).split(",")], "samples": options.samples}
    result = {**about(), **request, "cases": measure(request, compiled), "compile_seconds": compiled.seconds}
    for case in result["cases"]:
        bare = case["results"][0]["us_of_rounds"]
        for r in case["results"]:
            figures = r.get("failure") or (f"{statistics.median(r['us_of_rounds']):9.2f} us  "
                                           f"{statistics.median(a / b for a, b in zip(r['us_of_rounds'], bare)):.3f}")
            print(f"{case['rows']}x{case['inputs']}->{case['outputs']} r {case['rank']} {case['mode']:17} {r['name']:14} {figures}")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            file.write(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
