#!/usr/bin/env python3
"""Writes Hugging Face model directories with random weights in bfloat16, for benchmarks: OUT/<shape>/ for each --shape.

    python3 bench/pytorch/make_model.py --shape gpt2-medium --shape llama-1b --out out/models

The weights are drawn on the GPU when there is one (seed 0); the tokenizer has one token a byte and fillers up to the
vocabulary's size. A directory that is complete is left as it is."""

import argparse
import json
import time
from pathlib import Path

SHARD_BYTES = 5_000_000_000
ROPE_3_2 = {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192}


def llama(hidden, layers, intermediate, tied, factor):
    return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 128256, "hidden_size": hidden,
            "num_hidden_layers": layers, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": hidden // 32,
            "intermediate_size": intermediate, "hidden_act": "silu", "max_position_embeddings": 131072,
            "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "rope_scaling": {**ROPE_3_2, "factor": factor},
            "attention_bias": False, "mlp_bias": False, "tie_word_embeddings": tied, "torch_dtype": "bfloat16",
            "bos_token_id": 0, "eos_token_id": 1, "use_cache": True}


SHAPES = {
    # Without dropout: Engine applies none of the base's, and the comparison is of the same work.
    "gpt2-medium": {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "vocab_size": 50257, "n_positions": 1024,
                    "n_ctx": 1024, "n_embd": 1024, "n_layer": 24, "n_head": 16, "activation_function": "gelu_new",
                    "layer_norm_epsilon": 1e-5, "attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0,
                    "tie_word_embeddings": True, "torch_dtype": "bfloat16", "bos_token_id": 0, "eos_token_id": 1},
    "llama-1b": llama(2048, 16, 8192, True, 32.0),   # Llama 3.2 1B
    "llama-8b": llama(4096, 32, 14336, False, 8.0),  # Llama 3.1 8B
}


def parameters(config):
    """Names and shapes in the order of the file; a weight of one dimension is a norm's."""
    if config["model_type"] == "gpt2":
        e = config["n_embd"]
        yield "transformer.wte.weight", (config["vocab_size"], e)
        yield "transformer.wpe.weight", (config["n_positions"], e)
        for layer in range(config["n_layer"]):
            at = f"transformer.h.{layer}."
            for name, shape in (("ln_1", (e,)), ("attn.c_attn", (e, 3 * e)), ("attn.c_proj", (e, e)),
                                ("ln_2", (e,)), ("mlp.c_fc", (e, 4 * e)), ("mlp.c_proj", (4 * e, e))):
                yield f"{at}{name}.weight", shape
                yield f"{at}{name}.bias", (shape[-1],)
        yield "transformer.ln_f.weight", (e,)
        yield "transformer.ln_f.bias", (e,)
        return
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    queries, keys = (config[k] * config["head_dim"] for k in ("num_attention_heads", "num_key_value_heads"))
    yield "model.embed_tokens.weight", (config["vocab_size"], hidden)
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        yield at + "input_layernorm.weight", (hidden,)
        for name, shape in (("q", (queries, hidden)), ("k", (keys, hidden)), ("v", (keys, hidden)), ("o", (hidden, queries))):
            yield f"{at}self_attn.{name}_proj.weight", shape
        yield at + "post_attention_layernorm.weight", (hidden,)
        for name, shape in (("gate", (inner, hidden)), ("up", (inner, hidden)), ("down", (hidden, inner))):
            yield f"{at}mlp.{name}_proj.weight", shape
    yield "model.norm.weight", (hidden,)
    if not config["tie_word_embeddings"]:
        yield "lm_head.weight", (config["vocab_size"], hidden)


def size_of(shape):
    return 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)


def shards_of(entries):
    """Consecutive parameters in groups of at most SHARD_BYTES."""
    groups, filled = [[]], 0
    for name, shape in entries:
        if groups[-1] and filled + size_of(shape) > SHARD_BYTES:
            groups.append([])
            filled = 0
        groups[-1].append((name, shape))
        filled += size_of(shape)
    return groups


def write_weights(directory, config):
    import torch
    from safetensors.torch import save_file

    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator = torch.Generator(device).manual_seed(0)
    groups = shards_of(list(parameters(config)))
    weight_map = {}
    for i, group in enumerate(groups):
        tensors = {}
        for name, shape in group:
            value = torch.randn(shape, generator=generator, device=device, dtype=torch.bfloat16) * 0.02
            tensors[name] = (value + 1 if len(shape) == 1 and name.endswith("weight") else value).cpu()
        file = "model.safetensors" if len(groups) == 1 else f"model-{i + 1:05}-of-{len(groups):05}.safetensors"
        save_file(tensors, str(directory / file), metadata={"format": "pt"})
        weight_map.update({name: file for name in tensors})
    if len(groups) > 1:
        total = sum(size_of(shape) for _, shape in parameters(config))
        write_json(directory / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": weight_map})


def byte_characters():
    """GPT-2's characters for the bytes 0 to 255: printable ones stand for themselves, the others follow from 256 on."""
    own = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in own]
    return [chr(b) if b in own else chr(256 + others.index(b)) for b in range(256)]


def write_tokenizer(directory, size):
    special = ["<|begin|>", "<|end|>"]
    names = [*special, *byte_characters()]
    names += [f"<filler{i}>" for i in range(len(names), size)]
    added = [{"id": i, "content": name, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
              "special": True} for i, name in enumerate(special)]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    write_json(directory / "tokenizer.json", {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
        "pre_tokenizer": byte_level, "post_processor": None, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
                  "vocab": {name: i for i, name in enumerate(names)}, "merges": []}})
    write_json(directory / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": special[0],
                                                     "eos_token": special[1], "clean_up_tokenization_spaces": False})


def write_json(path, value):
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def make(directory, config):
    directory.mkdir(parents=True, exist_ok=True)
    write_tokenizer(directory, config["vocab_size"])
    write_json(directory / "generation_config.json", {"bos_token_id": 0, "eos_token_id": 1})
    write_weights(directory, config)
    write_json(directory / "config.json", config)  # last: its presence says that the directory is complete


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", action="append", required=True, choices=SHAPES)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    for shape in options.shape:
        started = time.time()
        directory = options.out / shape
        if (directory / "config.json").exists():
            print(f"{directory} is there")
            continue
        make(directory, SHAPES[shape])
        count = sum(size_of(s) for _, s in parameters(SHAPES[shape])) // 2
        print(f"{directory}: {count / 1e6:.0f} M parameters in {time.time() - started:.1f} s", flush=True)


if __name__ == "__main__":
    main()
