"""Writes the `exchange-*` folders beside this file: models as transformers stores them, and their logits.

    python make_exchange.py [OUT_DIR]

README.md says what is in them.
"""

import json

import safetensors.torch
import torch
from fixture import write_all
from reference import load, mean_loss, randomize, sequential_blocks, skewed_tokens
from safetensors import safe_open
from transformers import LlamaConfig, LlamaForCausalLM

CASES = {
    "exchange-f16": dict(
        seed=21, dtype=torch.float16, shard="1GB",
        config=dict(hidden_size=16, intermediate_size=28, num_hidden_layers=2, num_attention_heads=4,
                    num_key_value_heads=2, vocab_size=41, max_position_embeddings=16, bos_token_id=5, eos_token_id=[6, 7]),
    ),
    "exchange-tied-bf16": dict(
        seed=22, dtype=torch.bfloat16, shard="1GB",
        config=dict(hidden_size=24, intermediate_size=20, num_hidden_layers=1, num_attention_heads=3,
                    vocab_size=37, max_position_embeddings=16, tie_word_embeddings=True,
                    rope_parameters=dict(rope_type="default", rope_theta=700.0)),
    ),
    "exchange-sharded": dict(
        seed=23, dtype=torch.bfloat16, shard="2KB", older=True,
        config=dict(hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
                    vocab_size=31, max_position_embeddings=16, rms_norm_eps=1e-5),
    ),
}
B, T = 2, 12


def write_oldest_config(path, model):
    """Rewrites config.json as the first LLaMAs had it: no head_dim, no num_key_value_heads, `torch_dtype`."""
    config = json.loads(path.read_text())
    for key in ("head_dim", "num_key_value_heads", "rope_parameters", "attention_bias", "mlp_bias", "attention_dropout"):
        config.pop(key, None)
    config |= {"torch_dtype": config.pop("dtype"), "rope_scaling": None, "pretraining_tp": 1}
    path.write_text(json.dumps(config, indent=2) + "\n")
    again = LlamaConfig.from_pretrained(path.parent)
    same = ("head_dim", "num_key_value_heads", "rope_parameters", "attention_bias", "rms_norm_eps")
    assert all(getattr(again, key) == getattr(model.config, key) for key in same) and again.dtype == model.dtype, again


def write_case(folder, case):
    model = LlamaForCausalLM(LlamaConfig(**case["config"])).to(case["dtype"])
    generator = torch.Generator().manual_seed(case["seed"])
    randomize(model, generator, 0.1)
    model.save_pretrained(folder, max_shard_size=case["shard"])
    (folder / "generation_config.json").unlink(missing_ok=True)
    if case.get("older"):
        write_oldest_config(folder / "config.json", model)
    files = sorted(folder.glob("model*.safetensors"))
    stored = {key: slice_.get_dtype() for file in files for f in [safe_open(file, "pt")]
              for key in f.keys() for slice_ in [f.get_slice(key)]}
    stream = skewed_tokens(case["config"]["vocab_size"], B * T + 1, generator)
    tokens, targets = sequential_blocks(stream, 1, B, T)
    with torch.no_grad():
        _, logits = mean_loss(load(folder, torch.float64), tokens[0], targets[0])
        _, logits32 = mean_loss(load(folder, torch.float32), tokens[0], targets[0])
    print(f"{folder.name}: {len(stored)} tensors as {set(stored.values())} in {len(files)} files, "
          f"torch f32 differs by {(logits - logits32).abs().max():.1e}")
    golden = {"tokens": tokens.int().contiguous(), "targets": targets.int().contiguous(), "logits": logits.float()}
    safetensors.torch.save_file(golden, folder / "golden.safetensors", {"hyperparameters": "{}"})


if __name__ == "__main__":
    write_all(CASES, write_case)
