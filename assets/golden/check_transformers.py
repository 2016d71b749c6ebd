"""Loads a checkpoint folder in transformers, or a KAT in kat.py, and evaluates it as `evenkeel eval` does.

    python check_transformers.py FOLDER --data FILE --seq-len T

FILE is read as raw bytes, one token each. Windows x = [iT, iT+T), y = [iT+1, iT+T] do not overlap; a last short
one is left out. The last line is JSON with the keys of `evenkeel eval --json`.
"""

import argparse
import json
import math
import sys
from pathlib import Path

import kat
import torch
import transformers
from safetensors import safe_open
from transformers import LlamaForCausalLM

WINDOWS_PER_BATCH = 16


def load_strict(folder):
    """The model in f32, or an end that names every key that is missing, not expected or misshapen."""
    with safe_open(folder / "model.safetensors", "pt") as file:
        if file.metadata() != {"format": "pt"}:
            sys.exit(f'metadata of model.safetensors: expected {{"format": "pt"}}, got {file.metadata()}')
        dtypes = {file.get_slice(name).get_dtype() for name in file.keys()}
    if json.loads((folder / "config.json").read_text()).get("model_type") == "kat":
        model = kat.load(folder, torch.float32)
    else:
        model, info = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
        problems = {kind: found for kind, found in info.items() if found}
        if problems:
            sys.exit(f"{folder} does not load cleanly: {problems}")
    print(f"{folder}: {sum(p.numel() for p in model.parameters())} parameters, stored as {', '.join(dtypes)}, "
          f"no missing or unexpected key (transformers {transformers.__version__})")
    return model.eval()


@torch.no_grad()
def evaluate(model, ids, T):
    """Sum of -ln p over all windows, and the number of targets."""
    windows = (len(ids) - 1) // T
    x = ids[: windows * T].reshape(windows, T)
    y = ids[1 : windows * T + 1].reshape(windows, T)
    total = 0.0
    for x_part, y_part in zip(x.split(WINDOWS_PER_BATCH), y.split(WINDOWS_PER_BATCH)):
        logits = model(input_ids=x_part, use_cache=False).logits.double()
        total += torch.nn.functional.cross_entropy(logits.flatten(0, 1), y_part.flatten(), reduction="sum").item()
    return total, windows * T


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seq-len", type=int, required=True)
    args = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    model = load_strict(args.folder)
    ids = torch.frombuffer(bytearray(args.data.read_bytes()), dtype=torch.uint8).long()
    if len(ids) <= args.seq_len:
        sys.exit(f"{args.data}: expected more than {args.seq_len} bytes, got {len(ids)}")
    V = model.config.vocab_size
    if ids.max() >= V:
        sys.exit(f"{args.data}: expected bytes below vocab_size {V}, got {ids.max()}")
    total, count = evaluate(model, ids, args.seq_len)
    loss = total / count
    print(json.dumps({"loss": loss, "tokens": count, "perplexity": math.exp(loss)}))


if __name__ == "__main__":
    main()
