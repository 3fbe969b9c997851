"""How lora_linear.py times: chains of calls between CUDA events, the candidates taking turns."""

import contextlib
import math
import statistics

# The rule by which Engine's side (src/Cli/Bench/LoraBenchRunner.cs) chooses too, so that both do the same.
CACHE_MULTIPLE, LEAST_SETS, MOST_SETS, MOST_REPEATS = 3, 2, 16, 16
SAMPLE_MICROSECONDS = 200
FLOPS_PER_SECOND, BYTES_PER_SECOND = 8e14, 3.5e12


class Plan:
    """Sets of inputs, more than the L2 cache holds, and calls in a sample."""

    def __init__(self, sets, repeats):
        self.sets, self.repeats, self.calls = sets, repeats, sets * repeats

    @staticmethod
    def of(flops, least_bytes, cache=None):
        if cache is None:
            import torch

            cache = torch.cuda.get_device_properties(0).L2_cache_size
        sets = min(max(math.ceil(CACHE_MULTIPLE * cache / least_bytes), LEAST_SETS), MOST_SETS)
        estimate = 1e6 * max(flops / FLOPS_PER_SECOND, least_bytes / BYTES_PER_SECOND)
        return Plan(sets, min(max(math.ceil(SAMPLE_MICROSECONDS / (sets * estimate)), 1), MOST_REPEATS))


class Candidate:
    """A name, a call on set number i, whether it is captured in a graph, and what it runs in (torch.no_grad())."""

    def __init__(self, name, call, graph=False, context=None):
        self.name, self.call, self.graph, self.context = name, call, graph, context or contextlib.nullcontext()
        self.failure, self.medians, self.least, self.sample = None, [], math.inf, None

    def chain(self, plan):
        with self.context:
            for _ in range(plan.repeats):
                for i in range(plan.sets):
                    self.call(i)

    def prepare(self, plan):
        try:
            self.sample = captured(lambda: self.chain(plan)) if self.graph else lambda: self.chain(plan)
            for _ in range(2):
                self.sample()
        except Exception as error:  # told in the result; the other candidates go on
            self.failure = f"{type(error).__name__}: {error}".splitlines()[0][:300]

    def result(self):
        result = {"name": self.name, "passes": 1, "us_of_rounds": self.medians, "us_min": self.least if self.medians else None}
        return {**result, "failure": self.failure} if self.failure else result


def normal(*shape):
    import torch

    return torch.randn(*shape, device="cuda", dtype=torch.bfloat16)


def captured(run):
    """Captures a run in a CUDA graph; what it made stays in the graph's memory. Returns the replay."""
    import torch

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def microseconds(samples, run):
    """Of each run. The first event waits behind copies, so that a graph's launch is queued before its time begins."""
    import torch

    events = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(samples)]
    block = torch.empty(2, 64 << 20, dtype=torch.uint8, device="cuda")
    torch.cuda.synchronize()
    for _ in range(4):
        block[1].copy_(block[0])
    for begin, end in events:
        begin.record()
        run()
        end.record()
    torch.cuda.synchronize()
    return [1000 * begin.elapsed_time(end) for begin, end in events]


def run(candidates, plan, rounds, samples):
    """The results of candidates that take turns, in microseconds a call."""
    for candidate in candidates:
        candidate.prepare(plan)
    for _ in range(rounds):
        for candidate in (c for c in candidates if not c.failure):
            times = [t / plan.calls for t in microseconds(samples, candidate.sample)]
            candidate.medians.append(statistics.median(times))
            candidate.least = min(candidate.least, *times)
    return [candidate.result() for candidate in candidates]
