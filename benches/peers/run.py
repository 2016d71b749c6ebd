"""Evenkeel beside PyTorch and Burn: the same model, weights, tokens, batch and optimizer, in turn, in one table.

    python3 benches/peers/run.py [--quick] [--presets nano,s] [--adapter TEXT] [--rounds 3] [--seconds 5] [--skip TEXT,...]

The first call installs PyTorch into `target/peers/venv` and builds Burn in `target/peers/burn` (hundreds of crates:
an hour on two cores), both from their registries; later ones go on from what is there. Every engine first trains eight
steps without clipping, and its losses must agree with PyTorch's. Then each engine's process runs in turn (A B C A B C):
a figure is the median over the rounds, a ratio the median of the rounds' ratios. An engine that fails is named in the
table, with the reason, and the others go on. Python 3.11 and its standard library suffice.
"""

import argparse
import array
import datetime
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
PEERS = TARGET / "peers"
VENV = PEERS / "venv"
PYTHON = VENV / "bin" / "python"
EVENKEEL = TARGET / "release" / "evenkeel"
BURN = PEERS / "burn" / "release" / "burn-peer"

CHECKED_STEPS = 8
# Losses agree to about 1e-5 in f32 (benches/LOG.md); another model or optimizer is off by far more than this.
LOSS_TOLERANCE = 1e-4
# Seconds that a process may take: Burn tries kernels for minutes before its first step on a software driver.
PATIENCE = 1200
BATCHES = 16
REFERENCE = "PyTorch CPU eager"


class Failure(Exception):
    """An engine, or a build, that did not do what was asked of it."""


def say(text):
    print(text, file=sys.stderr, flush=True)


def call(command, patience=None, **options):
    """Runs a command; its standard output."""
    command = [str(word) for word in command]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=patience, encoding="utf-8", errors="replace", **options)
    except subprocess.TimeoutExpired:
        raise Failure(f"no result within {patience} s") from None
    except OSError as error:
        raise Failure(f"{command[0]}: {error}") from None
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise Failure(f"{Path(command[0]).name}: {lines[-1] if lines else f'exit status {done.returncode}'}")
    return done.stdout


def build(words, **environment):
    """Builds with cargo, which shows its own progress."""
    say(f"$ cargo {' '.join(str(word) for word in words)}")
    if subprocess.run(["cargo", *words], cwd=ROOT, env={**os.environ, **environment}).returncode != 0:
        raise Failure("cargo build failed")


def install():
    """PyTorch in a virtual environment, unless one is there."""
    PEERS.mkdir(parents=True, exist_ok=True)
    probe = [PYTHON, "-c", "import numpy, safetensors, torch"]
    if PYTHON.exists() and subprocess.run(probe, capture_output=True).returncode == 0:
        return
    say("installing PyTorch (some GB)")
    call([sys.executable, "-m", "venv", VENV])
    if subprocess.run([PYTHON, "-m", "pip", "install", "-r", HERE / "requirements.txt"]).returncode != 0:
        raise Failure("pip install failed")


@dataclass
class Model:
    """A preset's first weights, and tokens to train on."""

    preset: str
    folder: Path
    batch: int
    seq_len: int


def model(preset):
    """Written by Evenkeel, as a step whose learning rate is zero leaves it; at the first call."""
    run = PEERS / "models" / preset
    folder = run / "checkpoints" / "step-000001"
    if not (folder / "tokens.bin").exists():
        say(f"writing the weights of preset {preset}")
        subprocess.run(["rm", "-rf", run], check=True)
        settings = ["optimizer.lr=0", "instruments.interval=0"]
        flags = [word for setting in settings for word in ("--set", setting)]
        call([EVENKEEL, "pretrain", "--adapter", "cpu", "--preset", preset, "--steps", 1, "--out", run, *flags])
    settings = tomllib.loads((run / "run.toml").read_text())
    batch, seq_len = settings["train"]["batch_size"], settings["train"]["seq_len"]
    if not (folder / "tokens.bin").exists():
        vocabulary = json.loads((folder / "config.json").read_text())["vocab_size"]
        write_tokens(folder / "tokens.bin", BATCHES * batch * seq_len + 1, vocabulary)
    return Model(preset, folder, batch, seq_len)


def write_tokens(path, count, vocabulary):
    """Random tokens, the frequent ones far more often than the rest, as a shard in llm.c's format."""
    weights = [1 / (token + 1) for token in range(vocabulary)]
    header = array.array("i", [20240520, 1, count] + [0] * 253)
    tokens = array.array("H", random.Random(0).choices(range(vocabulary), weights, k=count))
    if sys.byteorder == "big":
        header.byteswap()
        tokens.byteswap()
    path.write_bytes(header.tobytes() + tokens.tobytes())


class Torch:
    def __init__(self, name, flags=()):
        self.name, self.flags = name, list(flags)
        self.device = [word for pair in zip(self.flags, self.flags[1:]) if pair[0] == "--device" for word in pair]

    def run(self, what, model, *arguments):
        command = [PYTHON, HERE / "torch_step.py", what, model.folder, "--batch", model.batch, *arguments]
        return json.loads(call(command, PATIENCE, cwd=PEERS).splitlines()[-1])

    def speed(self, model, seconds):
        return self.run("speed", model, "--seconds", seconds, *self.flags)

    def losses(self, model):
        return self.run("losses", model, "--steps", CHECKED_STEPS, *self.device)["losses"]


class Burn:
    def __init__(self, name, backend):
        self.name, self.backend = name, backend

    def run(self, model, *arguments):
        command = [BURN, self.backend, model.folder, model.batch, *arguments]
        return json.loads(call(command, PATIENCE, cwd=PEERS).splitlines()[-1])

    def speed(self, model, seconds):
        return self.run(model, "speed", seconds)

    def losses(self, model):
        return self.run(model, "losses", CHECKED_STEPS)["losses"]


class Evenkeel:
    def __init__(self, name, adapter):
        self.name = name
        self.adapter = ["--adapter", adapter] if adapter else []

    def speed(self, model, seconds):
        words = ["bench", "--json", "--preset", model.preset, "--model", "llama", "--seconds", seconds, *self.adapter]
        return json.loads(call([EVENKEEL, *words], PATIENCE))["steps"][0]

    def losses(self, model):
        run = PEERS / "check"
        subprocess.run(["rm", "-rf", run], check=True)
        settings = {
            "model.from": json.dumps(str(model.folder)),
            "data.order": "sequential",
            "train.batch_size": model.batch,
            "train.seq_len": model.seq_len,
            "optimizer.lr": 1e-3,
            "optimizer.grad_clip": 0,
            "schedule.kind": "constant",
            "schedule.warmup_steps": 0,
        }
        words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
        words += ["--data", model.folder / "tokens.bin", "--steps", CHECKED_STEPS, "--out", run, *self.adapter]
        call([EVENKEEL, "pretrain", *words], PATIENCE)
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        return [row["loss"] for row in rows if "loss" in row]


def engines(adapter, skipped):
    """All that this machine can run; the reference first."""
    found = [Torch(REFERENCE), Torch("PyTorch CPU compiled", ["--compile"])]
    if call([PYTHON, "-c", "import torch; print(torch.cuda.is_available())"]).strip() == "True":
        cuda = ["--device", "cuda"]
        found.append(Torch("PyTorch CUDA eager", cuda))
        found.append(Torch("PyTorch CUDA compiled", [*cuda, "--compile"]))
        found.append(Torch("PyTorch CUDA compiled, bf16", [*cuda, "--compile", "--bf16"]))
    found += [Burn("Burn flex (CPU)", "flex"), Evenkeel("Evenkeel CPU", "cpu")]
    devices = call([EVENKEEL, "devices"]).splitlines()
    if adapter or not devices[0].startswith("cpu"):
        found += [Burn("Burn wgpu", "wgpu"), Evenkeel("Evenkeel wgpu", adapter)]
    skips = [part.lower() for part in skipped.split(",") if part]
    return [engine for engine in found if not any(part in engine.name.lower() for part in skips)]


def check(engines, model):
    """Losses beside PyTorch's; the engines that agree, and why the others do not take part."""
    reference, agreed, failures = None, [], {}
    for engine in engines:
        try:
            losses = engine.losses(model)
            reference = reference or losses
            distance = max(abs(a - b) for a, b in zip(losses, reference, strict=True))
            say(f"{model.preset}  {engine.name:<28} loss {losses[0]:.6f} -> {losses[-1]:.6f}  largest difference {distance:.1e}")
            if distance > LOSS_TOLERANCE:
                raise Failure(f"losses differ from the reference by {distance:.1e}")
            agreed.append(engine)
        except Failure as failure:
            say(f"{model.preset}  {engine.name}: {failure}")
            failures[engine.name] = str(failure)
    return agreed, failures


def measure(engines, model, rounds, seconds, failures):
    """Figures by engine, one for each round."""
    figures = {engine.name: [] for engine in engines}
    for number in range(rounds):
        for engine in engines:
            if engine.name in failures:
                continue
            try:
                row = engine.speed(model, seconds)
                figures[engine.name].append(row)
                say(f"{model.preset}  round {number + 1}/{rounds}  {engine.name:<28} {row['tokens_per_s']:>12,.0f} tokens/s")
            except Failure as failure:
                say(f"{model.preset}  {engine.name}: {failure}")
                failures[engine.name] = str(failure)
    return {name: rows for name, rows in figures.items() if len(rows) == rounds}


def median(rows, key):
    return statistics.median(row[key] for row in rows)


def ratio(rows, others):
    """Median of the rounds' ratios of tokens/s."""
    return statistics.median(a["tokens_per_s"] / b["tokens_per_s"] for a, b in zip(rows, others))


def table(names, results, failures):
    """Markdown: tokens/s, the share of the reference, and Evenkeel's on the same device over it."""
    lines = ["| preset | engine | tokens/s | min-max | of PyTorch CPU eager | Evenkeel / it | first step s |", "|---|---|---|---|---|---|---|"]
    for preset, figures in results.items():
        for name in names:
            if name not in figures:
                lines.append(f"| {preset} | {name} | {failures[preset].get(name, 'not run')} | | | | |")
                continue
            rows, rates = figures[name], [row["tokens_per_s"] for row in figures[name]]
            ours = figures.get("Evenkeel CPU" if "CPU" in name else "Evenkeel wgpu")
            share = f"{ratio(rows, figures[REFERENCE]):.2f}" if REFERENCE in figures else ""
            over = f"{ratio(ours, rows):.2f}" if ours and not name.startswith("Evenkeel") else ""
            lines.append(
                f"| {preset} | {name} | {statistics.median(rates):,.0f} | {min(rates):,.0f}-{max(rates):,.0f} "
                f"| {share} | {over} | {median(rows, 'first_step_s'):.1f} |"
            )
    return "\n".join(lines)


def processor():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{os.cpu_count()} x {name}"


def heading(rounds, seconds):
    commit = call(["git", "describe", "--always", "--dirty"], cwd=ROOT).strip()
    torch = call([PYTHON, "-c", "import torch; print(torch.__version__)"]).strip()
    adapter = call([EVENKEEL, "devices"]).splitlines()[0].strip()
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return (
        f"{datetime.date.today()}, commit {commit}, {processor()}{load}; {adapter}; PyTorch {torch}, Burn 0.22.1; "
        f"`benches/peers/run.py`, {rounds} rounds of {seconds} s, in turn"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--presets", default="nano,s")
    parser.add_argument("--adapter", help="adapter of Evenkeel's wgpu side, by a part of its name")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5, help="timed seconds of an engine in a round, at least 3 steps")
    parser.add_argument("--skip", default="", help="engines to leave out, by parts of their names")
    parser.add_argument("--quick", action="store_true", help="one short round of preset nano")
    args = parser.parse_args()
    if args.quick:
        args.presets, args.rounds, args.seconds = "nano", 1, 1
    install()
    build(["build", "--release", "--package", "evenkeel-cli"])
    if "burn" not in args.skip.lower().split(","):
        manifest = HERE / "burn" / "Cargo.toml"
        build(["build", "--release", "--locked", "--manifest-path", manifest], CARGO_TARGET_DIR=str(PEERS / "burn"))
    candidates = engines(args.adapter, args.skip)
    names = [engine.name for engine in candidates]
    results, failures = {}, {}
    for preset in args.presets.split(","):
        described = model(preset)
        agreed, failures[preset] = check(candidates, described)
        results[preset] = measure(agreed, described, args.rounds, args.seconds, failures[preset])
        (PEERS / "results.json").write_text(json.dumps(results, indent=1))
    print(heading(args.rounds, args.seconds) + "\n\n" + table(names, results, failures))


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"error: {failure}")
