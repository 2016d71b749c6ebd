"""What every golden model folder has in common: 20 steps in f64, compared with f32, written to golden.safetensors."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import safetensors
import safetensors.torch
import torch
import transformers
from reference import Recipe, load, sequential_blocks, skewed_tokens, train


def distance(a, b):
    """Largest absolute difference over two dicts of tensors."""
    return max((a[name].double() - b[name].double()).abs().max().item() for name in a)


def report(folder, recipe, trace, trace32, final, final32):
    clipped = sum(norm > recipe.grad_clip for norm in trace.grad_norms)
    assert 4 <= clipped <= recipe.steps - 4, f"{folder.name}: {clipped} steps clipped, norms {trace.grad_norms}"
    print(f"{folder.name}: {sum(p.numel() for p in final.values())} parameters, "
          f"loss {trace.losses[0]:.4f} -> {trace.losses[-1]:.4f}, {clipped} of {recipe.steps} steps clipped")
    norm_errors = [abs(a - b) / a for a, b in zip(trace.grad_norms, trace32.grad_norms)]
    print(f"  torch f32 differs by: logits {distance({'': trace.logits}, {'': trace32.logits}):.1e}, "
          f"gradients {distance(trace.grads, trace32.grads):.1e}, "
          f"losses {max(abs(a - b) for a, b in zip(trace.losses, trace32.losses)):.1e}, "
          f"grad_norms {max(norm_errors):.1e} (relative), final {distance(final, final32):.1e}")


def count_rescaled(folder, trace, tvr):
    """How many matrices TVR rescaled at each step, after a check that no decision depends on rounding."""
    fired = [{name for name, ratio in ratios.items() if ratio > tvr.threshold} for ratios in trace.tvr_ratios]
    margin = min(abs(ratio / tvr.threshold - 1) for ratios in trace.tvr_ratios for ratio in ratios.values())
    assert margin > 1e-3, f"{folder.name}: a decision of TVR is as close as {margin}"
    seen = set().union(*trace.tvr_ratios)
    always = set.intersection(*(f for f, ratios in zip(fired, trace.tvr_ratios) if ratios))
    assert seen - set().union(*fired) and set().union(*fired) - always, f"{folder.name}: every matrix decides alike"
    counts = [len(names) for names in fired]
    print(f"  TVR rescaled {counts} of {len(seen)}, closest decision {margin:.1e} from the threshold")
    return torch.tensor(counts, dtype=torch.int32)


def write_golden(folder, case, V, generator, watch=None):
    """Trains the model of `folder` and writes golden.safetensors; `watch` sees the exact model before it is trained."""
    recipe, tvr = case["recipe"], case.get("tvr")
    stream = skewed_tokens(V, recipe.steps * case["B"] * case["T"] + 1, generator)
    tokens, targets = sequential_blocks(stream, recipe.steps, case["B"], case["T"])

    exact, single = load(folder, torch.float64), load(folder, torch.float32)
    if watch:
        watch(exact, tokens, targets)
    trace, trace32 = (train(model, tokens, targets, recipe, tvr) for model in (exact, single))
    final, final32 = dict(exact.named_parameters()), dict(single.named_parameters())
    report(folder, recipe, trace, trace32, final, final32)

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
    # What says nothing of a recipe stays out: the bytes of fixtures outlive new fields.
    hyperparameters = {key: value for key, value in asdict(recipe).items()
                       if key not in ("kind", "no_decay") or value != getattr(Recipe, key)}
    if tvr:
        golden["tvr_rescaled"] = count_rescaled(folder, trace, tvr)
        hyperparameters["tvr"] = asdict(tvr)
    # One metadata key: safetensors does not keep several in a fixed order, and the bytes shall not vary.
    metadata = {"hyperparameters": json.dumps(hyperparameters)}
    safetensors.torch.save_file({k: v.contiguous() for k, v in golden.items()}, folder / "golden.safetensors", metadata)


def write_all(cases, write_case):
    """Writes each case to its folder under the first argument of the command line, or beside this file."""
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    print(f"python {sys.version.split()[0]}, torch {torch.__version__}, transformers {transformers.__version__}, "
          f"safetensors {safetensors.__version__}")
    for name, case in cases.items():
        (out / name).mkdir(parents=True, exist_ok=True)
        write_case(out / name, case)
