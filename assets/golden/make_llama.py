"""Writes the golden LLaMA folders beside this file. README.md says what is in them.

    python make_llama.py [OUT_DIR]
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import safetensors
import safetensors.torch
import torch
import transformers
from reference import Recipe, load, randomize, sequential_blocks, skewed_tokens, train
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
}


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
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink()
    if folder.name == "llama-tied":
        write_older_config(folder / "config.json")
        again = LlamaConfig.from_pretrained(folder)
        assert again.rope_parameters == model.config.rope_parameters and again.head_dim == model.config.head_dim
    return generator


def distance(a, b):
    """Largest absolute difference over two dicts of tensors."""
    return max((a[name].double() - b[name].double()).abs().max().item() for name in a)


def write_case(folder, case):
    recipe = case["recipe"]
    generator = write_initial(folder, case)
    stream = skewed_tokens(case["config"]["vocab_size"], recipe.steps * case["B"] * case["T"] + 1, generator)
    tokens, targets = sequential_blocks(stream, recipe.steps, case["B"], case["T"])

    exact, single = load(folder, torch.float64), load(folder, torch.float32)
    trace, trace32 = (train(model, tokens, targets, recipe) for model in (exact, single))
    final, final32 = dict(exact.named_parameters()), dict(single.named_parameters())

    clipped = sum(norm > recipe.grad_clip for norm in trace.grad_norms)
    assert 4 <= clipped <= recipe.steps - 4, f"{folder.name}: {clipped} steps clipped, norms {trace.grad_norms}"
    print(f"{folder.name}: {sum(p.numel() for p in final.values())} parameters, "
          f"loss {trace.losses[0]:.4f} -> {trace.losses[-1]:.4f}, {clipped} of {recipe.steps} steps clipped")
    norm_errors = [abs(a - b) / a for a, b in zip(trace.grad_norms, trace32.grad_norms)]
    print(f"  torch f32 differs by: logits {distance({'': trace.logits}, {'': trace32.logits}):.1e}, "
          f"gradients {distance(trace.grads, trace32.grads):.1e}, "
          f"losses {max(abs(a - b) for a, b in zip(trace.losses, trace32.losses)):.1e}, "
          f"grad_norms {max(norm_errors):.1e} (relative), final {distance(final, final32):.1e}")

    golden = {
        "tokens": tokens.int(),
        "targets": targets.int(),
        "logits": trace.logits.float(),
        "losses": torch.tensor(trace.losses, dtype=torch.float64),
        "grad_norms": torch.tensor(trace.grad_norms, dtype=torch.float64),
        "lrs": torch.tensor(trace.lrs, dtype=torch.float64),
    }
    golden |= {f"grad.{name}": grad.float() for name, grad in trace.grads.items()}
    golden |= {f"final.{name}": p.detach().float() for name, p in final.items()}
    # One metadata key: safetensors does not keep several in a fixed order, and the bytes shall not vary.
    metadata = {"hyperparameters": json.dumps(asdict(recipe))}
    safetensors.torch.save_file({k: v.contiguous() for k, v in golden.items()}, folder / "golden.safetensors", metadata)


def main():
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    print(f"python {sys.version.split()[0]}, torch {torch.__version__}, transformers {transformers.__version__}, "
          f"safetensors {safetensors.__version__}")
    for name, case in CASES.items():
        (out / name).mkdir(parents=True, exist_ok=True)
        write_case(out / name, case)


if __name__ == "__main__":
    main()
