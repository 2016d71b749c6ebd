"""A parity check with a model that no fixture has.

    python unseen.py OUT_DIR --seed N [--arch kat] [--tvr]
                                                   writes OUT_DIR/model, OUT_DIR/tokens.bin and OUT_DIR/expected.json,
                                                   and prints the command line that repeats the run in Evenkeel
    python unseen.py OUT_DIR --compare RUN_FOLDER  compares RUN_FOLDER/metrics.jsonl with OUT_DIR/expected.json

Shapes, hyper-parameters, weights and tokens all follow from the seed. --arch is llama or kat; with --tvr the run
rescales its matrices, and the count of each step is compared too.
"""

import argparse
import json
import math
import random
import shlex
import struct
import sys
from dataclasses import asdict
from pathlib import Path

import kat
import torch
from reference import Recipe, Tvr, load, randomize, sequential_blocks, skewed_tokens, train
from transformers import LlamaConfig, LlamaForCausalLM

SHARD_MAGIC, SHARD_VERSION = 20240520, 1
LOSS_TOLERANCE = 1e-4


def log_uniform(rng, low, high):
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def draw_config(rng, T):
    """A valid random LLaMA; hidden_size is a multiple of the heads because transformers demands it."""
    KV = rng.choice([1, 1, 2, 3])
    H = KV * rng.choice([1, 2, 3, 4])
    D = 2 * rng.randint(2, 20)
    C = H * rng.randint(-(-24 // H), 96 // H)
    return dict(
        hidden_size=C, intermediate_size=2 * rng.randint(12, 90) + 1, num_hidden_layers=rng.randint(1, 4),
        num_attention_heads=H, num_key_value_heads=KV, head_dim=D, vocab_size=2 * round(log_uniform(rng, 20, 1500)) + 1,
        max_position_embeddings=T + rng.choice([0, 7]), rms_norm_eps=log_uniform(rng, 1e-7, 1e-3),
        rope_parameters=dict(rope_type="default", rope_theta=float(round(log_uniform(rng, 1e2, 1e6)))),
        tie_word_embeddings=rng.random() < 0.5,
    )


def draw_kat_config(rng, T):
    """A valid random KAT: what draw_config gives, with a number of groups that divides both widths."""
    config = draw_config(rng, T)
    G = rng.choice([g for g in range(1, 17) if config["hidden_size"] % g == 0])
    return config | dict(
        intermediate_size=G * rng.randint(-(-24 // G), 180 // G), rational_groups=G,
        rational_form=rng.choice(kat.FORMS), rational_init=[rng.choice(["identity", "swish"]) for _ in range(2)],
        rational_shared_numerator=rng.random() < 0.5,
    )


def draw_tvr(rng, std):
    """A target near the initial spread, so that some matrices are rescaled, at once or as they grow, and some never."""
    return Tvr(target_std=std * rng.uniform(0.5, 0.9), interval=rng.randint(1, 6), threshold=rng.uniform(1.05, 1.3),
               depth_scaled=rng.random() < 0.5, exclude=tuple(rng.sample(["q_proj", "k_proj", "v_proj", "o_proj"], k=1)))


def draw_recipe(rng):
    schedule = rng.choice(["constant", "cosine"])
    return Recipe(
        lr=log_uniform(rng, 5e-4, 5e-3), betas=(rng.choice([0.8, 0.9]), rng.choice([0.95, 0.99, 0.999])),
        eps=rng.choice([1e-8, 1e-7, 1e-6]), weight_decay=rng.choice([0.0, 0.1, 0.3]),
        grad_clip=rng.choice([0.0, 1.0, 2.0, 3.0]), schedule=schedule,
        warmup_steps=rng.randint(1, 6) if schedule == "cosine" else 0,
        min_lr_ratio=rng.choice([0.0, 0.1, 0.5]), grad_accumulation=rng.choice([1, 1, 2, 3]),
    )


def write_shard(path, ids):
    """llm.c's token file: 256 int32 of header, then uint16 ids."""
    header = struct.pack("<256i", SHARD_MAGIC, SHARD_VERSION, len(ids), *[0] * 253)
    path.write_bytes(header + struct.pack(f"<{len(ids)}H", *ids.tolist()))


def command_line(out, recipe, tvr, B, T):
    settings = {
        "model.from": str(out / "model"), "data.order": "sequential",
        "train.batch_size": B, "train.grad_accumulation": recipe.grad_accumulation, "train.seq_len": T,
        "optimizer.kind": "adamw", "optimizer.lr": recipe.lr,
        "optimizer.beta1": recipe.betas[0], "optimizer.beta2": recipe.betas[1], "optimizer.eps": recipe.eps,
        "optimizer.weight_decay": recipe.weight_decay, "optimizer.grad_clip": recipe.grad_clip,
        "schedule.kind": recipe.schedule, "schedule.warmup_steps": recipe.warmup_steps,
        "schedule.min_lr_ratio": recipe.min_lr_ratio,
    }
    if tvr:
        settings |= {"tvr.enabled": True} | {f"tvr.{key}": value for key, value in asdict(tvr).items()}
    words = ["evenkeel", "pretrain", "--data", str(out / "tokens.bin"), "--steps", str(recipe.steps)]
    for key, value in settings.items():
        # Every JSON string, number, boolean and array of strings is also a TOML value.
        words += ["--set", f"{key}={json.dumps(value)}"]
    return words + ["--out", str(out / "run")]


def write(out, seed, arch, with_tvr):
    rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    B, T = rng.randint(1, 4), round(log_uniform(rng, 1, 150))
    config, recipe = draw_kat_config(rng, T) if arch == "kat" else draw_config(rng, T), draw_recipe(rng)
    model = kat.build(config) if arch == "kat" else LlamaForCausalLM(LlamaConfig(**config))
    std = rng.uniform(0.05, 0.12)
    randomize(model, generator, std)
    (out / "model").mkdir(exist_ok=True)
    if arch == "kat":
        kat.save(model, config, out / "model")
    else:
        model.save_pretrained(out / "model")
    count = recipe.steps * recipe.grad_accumulation
    # Up to nine tokens more than the run reads: nothing may depend on the end of the shard.
    stream = skewed_tokens(config["vocab_size"], count * B * T + 1 + rng.randint(0, 9), generator)
    write_shard(out / "tokens.bin", stream)

    tvr = draw_tvr(rng, std) if with_tvr else None
    trace = train(load(out / "model", torch.float64), *sequential_blocks(stream, count, B, T), recipe, tvr)
    command = shlex.join(command_line(out, recipe, tvr, B, T))
    expected = {"seed": seed, "batch_size": B, "seq_len": T, "config": config, "recipe": asdict(recipe),
                "losses": trace.losses, "grad_norms": trace.grad_norms, "lrs": trace.lrs, "command": command}
    if tvr:
        fired = [sum(ratio > tvr.threshold for ratio in ratios.values()) for ratios in trace.tvr_ratios]
        margin = min((abs(r / tvr.threshold - 1) for ratios in trace.tvr_ratios for r in ratios.values()), default=1)
        expected |= {"tvr": asdict(tvr), "tvr_rescaled": fired}
        print(f"{tvr}\nrescaled {fired}, closest decision {margin:.1e} from the threshold")
    (out / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
    print(f"B {B}, T {T}, {config}\n{recipe}\nloss {trace.losses[0]:.4f} -> {trace.losses[-1]:.4f}\n\n{command}")


def compare(out, run_folder):
    """Prints the differences; whether every step is there and every loss within the tolerance."""
    expected = json.loads((out / "expected.json").read_text())
    lines = (run_folder / "metrics.jsonl").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if "loss" in row]
    steps = list(range(1, len(expected["losses"]) + 1))
    if [row["step"] for row in rows] != steps:
        print(f"steps: expected 1..{len(steps)}, got {[row['step'] for row in rows]}")
        return False
    per_step = expected["batch_size"] * expected["seq_len"] * expected["recipe"]["grad_accumulation"]
    if [row["tokens"] for row in rows] != [step * per_step for step in steps]:
        print(f"tokens: expected {per_step} more each step, got {[row['tokens'] for row in rows]}")
        return False
    worst = {}
    for key, name in (("loss", "losses"), ("grad_norm", "grad_norms"), ("lr", "lrs")):
        worst[key] = max(abs(row[key] - value) for row, value in zip(rows, expected[name]))
        print(f"{key}: max abs difference {worst[key]:.2e}")
    rescaled = [row.get("tvr_rescaled", 0) for row in rows]
    if rescaled != expected.get("tvr_rescaled", rescaled):
        print(f"tvr_rescaled: expected {expected['tvr_rescaled']}, got {rescaled}")
        return False
    return worst["loss"] < LOSS_TOLERANCE


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path, metavar="OUT_DIR")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--arch", choices=["llama", "kat"], default="llama")
    parser.add_argument("--tvr", action="store_true")
    parser.add_argument("--compare", type=Path, metavar="RUN_FOLDER")
    args = parser.parse_args()
    out = args.out.resolve()
    if args.compare:
        sys.exit(0 if compare(out, args.compare) else 1)
    out.mkdir(parents=True, exist_ok=True)
    write(out, args.seed, args.arch, args.tvr)


if __name__ == "__main__":
    main()
