"""Writes the golden LLaMA folders beside this file. README.md says what is in them.

    python make_llama.py [OUT_DIR]
"""

import json
import math

import torch
from fixture import write_all, write_golden
from reference import Recipe, Tvr, randomize
from transformers import LlamaConfig, LlamaForCausalLM

CASES = {
    "llama-gqa": dict(
        seed=1, B=2, T=17, std=0.08,
        recipe=Recipe(lr=3e-3, grad_clip=2.75),
        config=dict(hidden_size=48, intermediate_size=88, num_hidden_layers=2, num_attention_heads=4,
                    num_key_value_heads=2, vocab_size=101, max_position_embeddings=64),
    ),
    "llama-tied": dict(
        seed=2, B=3, T=17, std=0.1,
        recipe=Recipe(lr=2e-3, grad_clip=2.75),
        config=dict(hidden_size=32, intermediate_size=56, num_hidden_layers=3, num_attention_heads=4,
                    vocab_size=67, max_position_embeddings=17, tie_word_embeddings=True, rms_norm_eps=1e-3,
                    rope_parameters=dict(rope_type="default", rope_theta=500.0)),
    ),
    "llama-headdim": dict(
        seed=3, B=2, T=23, std=0.08,
        recipe=Recipe(lr=3e-3, grad_clip=2.75),
        config=dict(hidden_size=42, intermediate_size=75, num_hidden_layers=2, num_attention_heads=3,
                    num_key_value_heads=1, head_dim=22, vocab_size=89, max_position_embeddings=32,
                    rope_parameters=dict(rope_type="default", rope_theta=25000.0)),
    ),
    "llama-novograd": dict(
        seed=8, B=2, T=16, std=0.08,
        recipe=Recipe(lr=1e-2, betas=(0.95, 0.98), weight_decay=0.05, grad_clip=2.75, kind="novograd",
                      no_decay=("o_proj", "embed_tokens")),
        config=dict(hidden_size=20, intermediate_size=36, num_hidden_layers=2, num_attention_heads=2,
                    num_key_value_heads=1, vocab_size=53, max_position_embeddings=16),
    ),
    "llama-tvr": dict(
        seed=7, B=2, T=19, std=0.07, lir=True,
        recipe=Recipe(lr=8e-3, grad_clip=1.75),
        tvr=Tvr(target_std=0.04, interval=3, threshold=1.2, exclude=("o_proj",)),
        config=dict(hidden_size=24, intermediate_size=40, num_hidden_layers=4, num_attention_heads=4,
                    num_key_value_heads=2, vocab_size=71, max_position_embeddings=32),
    ),
}


@torch.no_grad()
def divide_by_depth(model):
    """Layer index rescaling: the matrices of layer l, counted from 1, are divided by sqrt(l)."""
    for index, layer in enumerate(model.model.layers):
        for parameter in layer.parameters():
            if parameter.ndim > 1:
                parameter.div_(math.sqrt(index + 1))


def write_older_config(path):
    """Rewrites config.json as transformers 4 did: rope_theta at the top level, null for what is absent."""
    config = json.loads(path.read_text())
    theta = config.pop("rope_parameters")["rope_theta"]
    config |= {"head_dim": None, "rope_scaling": None, "rope_theta": theta, "torch_dtype": config.pop("dtype")}
    path.write_text(json.dumps(dict(sorted(config.items())), indent=2) + "\n")


def write_initial(folder, case):
    """config.json and model.safetensors as save_pretrained writes them; returns the generator for the tokens."""
    model = LlamaForCausalLM(LlamaConfig(**case["config"]))
    generator = torch.Generator().manual_seed(case["seed"])
    randomize(model, generator, case["std"])
    if case.get("lir"):
        divide_by_depth(model)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink()
    if folder.name == "llama-tied":
        write_older_config(folder / "config.json")
        again = LlamaConfig.from_pretrained(folder)
        assert again.rope_parameters == model.config.rope_parameters and again.head_dim == model.config.head_dim
    return generator


def write_case(folder, case):
    write_golden(folder, case, case["config"]["vocab_size"], write_initial(folder, case))


if __name__ == "__main__":
    write_all(CASES, write_case)
