"""Writes targets.json and adapter_config.*.json beside this file, by running PEFT's own code.

    git clone https://github.com/huggingface/peft && python make_fixtures.py peft/src

Only PEFT's pure-Python parts run (configuration, matching of module names), so neither PyTorch nor transformers is
needed: what PEFT's modules import beside them is replaced by empty stand-ins. Written from PEFT commit 5d602fdbf
(2026-08-21, between 0.20 and 0.21).
"""
import ast
import importlib
import importlib.machinery
import json
import pathlib
import re
import shutil
import sys
import tempfile
import types
import typing
from unittest.mock import MagicMock

PEFT = pathlib.Path(sys.argv[1]).resolve()
HERE = pathlib.Path(__file__).resolve().parent


class StandIn(types.ModuleType):
    __path__ = []

    def __init__(self, name):
        super().__init__(name)
        self.__spec__ = importlib.machinery.ModuleSpec(name, None)

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class Finder:
    """Serves every module outside the standard library and PEFT's configuration files as a stand-in."""
    REAL = {"peft.config": "peft/config.py", "peft.tuners.lora.config": "peft/tuners/lora/config.py",
            "peft.utils.peft_types": "peft/utils/peft_types.py"}

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name in Finder.REAL:
            return importlib.util.spec_from_file_location(name, PEFT / Finder.REAL[name])
        if name.split(".")[0] in ("peft", "torch", "transformers", "huggingface_hub", "packaging"):
            return importlib.machinery.ModuleSpec(name, Finder, is_package=True)
        return None

    @staticmethod
    def create_module(spec):
        return StandIn(spec.name)

    @staticmethod
    def exec_module(module):
        if module.__name__ == "peft":
            module.__version__ = "0.21.0"
        if module.__name__ == "packaging.version":
            module.Version = lambda text: types.SimpleNamespace(dev=None)
        if module.__name__ == "peft.utils":
            peft_types = importlib.import_module("peft.utils.peft_types")
            module.CONFIG_NAME = "adapter_config.json"
            module.PeftType, module.TaskType = peft_types.PeftType, peft_types.TaskType


import importlib.util  # noqa: E402

sys.meta_path.insert(0, Finder)
from peft.tuners.lora.config import LoraConfig  # noqa: E402


def functions(path, *names):
    """The named functions and classes of one of PEFT's files, without running the file."""
    tree = ast.parse((PEFT / path).read_text())
    wanted = [n for n in tree.body if getattr(n, "name", None) in names]
    assert len(wanted) == len(names), names
    space = {"re": re, "Optional": typing.Optional, "Sequence": typing.Sequence, "PeftConfig": object, "nn": MagicMock(),
             "__name__": "extracted"}
    code = compile(ast.fix_missing_locations(ast.Module(
        [ast.ImportFrom("__future__", [ast.alias("annotations")], 0)] + wanted, [])), str(path), "exec")
    exec(code, space)
    return space


OTHER = functions("peft/utils/other.py", "get_pattern_key", "match_target_against_key")
UTILS = functions("peft/tuners/tuners_utils.py", "_ExcludedModule", "check_target_module_exists")
UTILS["match_target_against_key"] = OTHER["match_target_against_key"]

# Leaves with parameters as [path, kind, in, out, bias]; every other module (containers) is added below.
LLAMA = [["model.embed_tokens", "Embedding", 96, 16, False]]
for i in range(12):
    p = f"model.layers.{i}"
    LLAMA += [[f"{p}.self_attn.q_proj", "Linear", 16, 16, False], [f"{p}.self_attn.k_proj", "Linear", 16, 8, False],
              [f"{p}.self_attn.v_proj", "Linear", 16, 8, False], [f"{p}.self_attn.o_proj", "Linear", 16, 16, False],
              [f"{p}.mlp.gate_proj", "Linear", 16, 40, False], [f"{p}.mlp.up_proj", "Linear", 16, 40, False],
              [f"{p}.mlp.down_proj", "Linear", 40, 16, False],
              [f"{p}.input_layernorm", "Norm", 16, 16, False], [f"{p}.post_attention_layernorm", "Norm", 16, 16, False]]
LLAMA += [["model.norm", "Norm", 16, 16, False], ["lm_head", "Head", 16, 96, False]]
GPT2 = [["transformer.wte", "Embedding", 96, 16, False], ["transformer.wpe", "Embedding", 32, 16, False]]
for i in range(3):
    p = f"transformer.h.{i}"
    GPT2 += [[f"{p}.ln_1", "Norm", 16, 16, True], [f"{p}.attn.c_attn", "Conv1D", 16, 48, True],
             [f"{p}.attn.c_proj", "Conv1D", 16, 16, True], [f"{p}.ln_2", "Norm", 16, 16, True],
             [f"{p}.mlp.c_fc", "Conv1D", 16, 64, True], [f"{p}.mlp.c_proj", "Conv1D", 64, 16, True]]
GPT2 += [["transformer.ln_f", "Norm", 16, 16, True], ["lm_head", "Head", 16, 96, False]]
MODELS = {"llama": LLAMA, "gpt2": GPT2}

CASES = [
    ("llama", {"target_modules": ["q_proj", "v_proj"]}),
    ("llama", {"target_modules": ["self_attn.q_proj"]}),
    ("llama", {"target_modules": ["proj"]}),
    ("llama", {"target_modules": ["attn.q_proj"]}),
    ("llama", {"target_modules": ["model.layers.3.mlp.up_proj"]}),
    ("llama", {"target_modules": ["lm_head", "q_proj"]}),
    ("llama", {"target_modules": ["mlp"]}),
    ("llama", {"target_modules": ["norm"]}),
    ("llama", {"target_modules": ["embed_tokens"]}),
    ("llama", {"target_modules": ["nothing"]}),
    ("llama", {"target_modules": ["all-linear"]}),
    ("llama", {"target_modules": r".*\.(q|v)_proj"}),
    ("llama", {"target_modules": r"q_proj"}),
    ("llama", {"target_modules": r".*q_pro"}),
    ("llama", {"target_modules": r".*layers\.[0-2]\..*(?:up|down)_proj|lm_head"}),
    ("llama", {"target_modules": r".*layers\.\d{,1}\.self_attn\.(?P<w>[qk])_proj"}),
    ("llama", {"target_modules": r"(?i).*\.Q_PROJ"}),
    ("llama", {"target_modules": r".*\.self_attn\.(?!q_)[a-z]_proj\Z"}),
    ("llama", {"target_modules": r".*mlp.*"}),
    ("llama", {"target_modules": r".*\.[]q[]_proj"}),
    ("llama", {"target_modules": ["q_proj", "v_proj"], "exclude_modules": ["v_proj"]}),
    ("llama", {"target_modules": ["q_proj", "v_proj"], "exclude_modules": ["model.layers.1.self_attn.q_proj"]}),
    ("llama", {"target_modules": ["q_proj", "up_proj"], "exclude_modules": ["mlp"]}),
    ("llama", {"target_modules": ["q_proj", "v_proj"], "exclude_modules": r".*\.(1|11)\..*"}),
    ("llama", {"target_modules": ["q_proj"], "exclude_modules": ["q_proj"]}),
    ("llama", {"target_modules": ["q_proj"], "exclude_modules": []}),
    ("llama", {"target_modules": ["q_proj", "lm_head"], "modules_to_save": ["lm_head"]}),
    ("llama", {"target_modules": ["q_proj", "up_proj"], "modules_to_save": ["mlp"]}),
    ("llama", {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "norm"]}),
    ("llama", {"target_modules": ["q_proj"], "modules_to_save": ["proj"]}),
    ("llama", {"target_modules": ["q_proj"], "modules_to_save": ["layers.3"]}),
    ("llama", {"target_modules": ["q_proj"], "modules_to_save": ["classifier"]}),
    ("llama", {"target_modules": ["q_proj", "v_proj"], "layers_to_transform": 1}),
    ("llama", {"target_modules": ["q_proj"], "layers_to_transform": [0, 10, 99]}),
    ("llama", {"target_modules": ["q_proj"], "layers_to_transform": []}),
    ("llama", {"target_modules": ["q_proj"], "layers_to_transform": 99}),
    ("llama", {"target_modules": ["q_proj", "model.layers.5.self_attn.v_proj"], "layers_to_transform": [2]}),
    ("llama", {"target_modules": ["q_proj"], "layers_to_transform": [2], "layers_pattern": "layers"}),
    ("llama", {"target_modules": ["q_proj"], "layers_to_transform": [2], "layers_pattern": ""}),
    ("llama", {"target_modules": ["q_proj"], "layers_to_transform": [2], "layers_pattern": []}),
    ("llama", {"target_modules": ["q_proj"], "layers_to_transform": [2], "layers_pattern": [""]}),
    ("llama", {"target_modules": ["q_proj"], "layers_to_transform": [2], "layers_pattern": ["h", "layers"]}),
    ("llama", {"target_modules": ["q_proj"], "layers_to_transform": [2], "layers_pattern": "h"}),
    ("llama", {"target_modules": ["q_proj"], "layers_to_transform": [2], "layers_pattern": "l.*s"}),
    ("llama", {"target_modules": ["lm_head", "q_proj"], "layers_to_transform": [2]}),
    ("llama", {"target_modules": ["q_proj", "v_proj"], "rank_pattern": {"q_proj": 4, "v_proj": 2}}),
    ("llama", {"target_modules": ["q_proj"], "rank_pattern": {"layers.1.self_attn.q_proj": 4, "q_proj": 2}}),
    ("llama", {"target_modules": ["q_proj"], "rank_pattern": {"q_proj": 2, "layers.1.self_attn.q_proj": 4}}),
    ("llama", {"target_modules": ["q_proj"], "rank_pattern": {r"layers\.[01]\..*": 4, "proj": 3}}),
    ("llama", {"target_modules": ["q_proj"], "rank_pattern": {"model.layers.7.self_attn.q_proj": 16}}),
    ("llama", {"target_modules": ["q_proj"], "rank_pattern": {"^model.layers.2.self_attn.q_proj": 5}}),
    ("llama", {"target_modules": ["q_proj", "v_proj"], "alpha_pattern": {"v_proj": 32}, "rank_pattern": {"q_proj": 2}}),
    ("llama", {"target_modules": ["q_proj", "v_proj"], "alpha_pattern": {"[qk]_proj|o_proj": 64}, "lora_alpha": 24}),
    ("gpt2", {"target_modules": ["c_attn"]}),
    ("gpt2", {"target_modules": ["c_proj"], "exclude_modules": ["mlp.c_proj"]}),
    ("gpt2", {"target_modules": ["attn.c_proj"], "layers_to_transform": [0, 2]}),
    ("gpt2", {"target_modules": ["c_attn"], "layers_to_transform": [1], "layers_pattern": "h"}),
    ("gpt2", {"target_modules": ["c_attn"], "modules_to_save": ["ln_f", "wte"]}),
    ("gpt2", {"target_modules": ["h.0.attn.c_attn"]}),
]


def containers(leaves):
    paths = [leaf[0] for leaf in leaves]
    groups = {".".join(p.split(".")[:n]) for p in paths for n in range(1, p.count(".") + 1)}
    return [g for g in groups if g not in paths]


def run(model, fields):
    leaves = MODELS[model]
    kinds = {leaf[0]: leaf[1] for leaf in leaves}
    config = LoraConfig(**fields)
    keys = [leaf[0] for leaf in leaves] + containers(leaves)
    matched = [k for k in keys if UTILS["check_target_module_exists"](config, k)]
    result = {"model": model, "config": fields}
    if not matched:
        return result | {"error": "nothing"}
    if any(kinds.get(k) in (None, "Norm", "Embedding") for k in matched):
        # PEFT has no LoRA layer for a container or a norm; for an embedding it has one, which Engine refuses.
        return result | {"error": "unsupported"}
    targets = []
    for key in matched:
        r_key = OTHER["get_pattern_key"](config.rank_pattern.keys(), key)
        alpha_key = OTHER["get_pattern_key"](config.alpha_pattern.keys(), key)
        targets.append([key, config.rank_pattern.get(r_key, config.r),
                        config.alpha_pattern.get(alpha_key, config.lora_alpha)])
    # peft/utils/other.py, _set_trainable: a module is wrapped when its key ends in the text; a wrapped container
    # carries every parameter below it.
    wrapped = [k for k in keys if any(k.endswith(m) for m in config.modules_to_save or [])]
    saved = [leaf[0] for leaf in leaves if any(leaf[0] == w or leaf[0].startswith(w + ".") for w in wrapped)]
    if any(target[0] in saved for target in targets):
        # PEFT nests its two wrappers here; Engine refuses.
        return result | {"error": "both"}
    return result | {"targets": targets, "saved": saved}


def refused(fields):
    try:
        LoraConfig(**fields)
    except ValueError:
        return {"config": fields}
    raise AssertionError(fields)


REFUSED = [
    {"target_modules": ".*q_proj", "layers_to_transform": [1]},
    {"target_modules": ".*q_proj", "layers_to_transform": []},
    {"target_modules": "all-linear", "layers_to_transform": 1},
    {"target_modules": ".*q_proj", "layers_pattern": "layers"},
    {"target_modules": ["q_proj"], "layers_pattern": "layers"},
    {"target_modules": ["q_proj"], "layers_pattern": ["layers"]},
    {"target_modules": ["q_proj"], "task_type": "POETRY"},
]

CONFIGS = {
    "default": {},
    "list": {"r": 16, "lora_alpha": 32, "lora_dropout": 0.05, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM",
             "base_model_name_or_path": "org/modèle", "bias": "lora_only", "modules_to_save": ["lm_head", "embed_tokens"],
             "use_rslora": True, "use_dora": True, "init_lora_weights": "gaussian", "inference_mode": True,
             "layers_to_transform": [0, 2], "layers_pattern": "layers", "exclude_modules": ["o_proj"],
             "rank_pattern": {"down_proj": 4, "up_proj": 32}, "alpha_pattern": {"up_proj": 12.5}, "revision": "main"},
    "pattern": {"r": 4, "lora_alpha": 8, "lora_dropout": 1e-5, "target_modules": r".*\.(c_attn|c_proj)+", "bias": "all",
                "fan_in_fan_out": True, "init_lora_weights": "pissa_niter_16", "exclude_modules": "<'&\"\t>|\u007f",
                "auto_mapping": {"base_model_class": "GPT2LMHeadModel", "parent_library": "transformers.models.gpt2"}},
    "scalar": {"target_modules": ["k_proj"], "layers_to_transform": 3, "init_lora_weights": False, "bias": "none"},
}

with (HERE / "targets.json").open("w") as file:
    lines = [json.dumps(run(*case)) for case in CASES]
    file.write('{\n"models": {\n' + ",\n".join(f'"{k}": {json.dumps(v)}' for k, v in MODELS.items()))
    file.write('\n},\n"refused": [\n' + ",\n".join(json.dumps(refused(f)) for f in REFUSED))
    file.write('\n],\n"cases": [\n' + ",\n".join(lines) + "\n]\n}\n")
for name, fields in CONFIGS.items():
    with tempfile.TemporaryDirectory() as directory:
        LoraConfig(**fields).save_pretrained(directory)
        shutil.copyfile(pathlib.Path(directory) / "adapter_config.json", HERE / f"adapter_config.{name}.json")
