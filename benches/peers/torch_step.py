"""PyTorch's eager training step on the CPU, for the table in benches/LOG.md.

    python torch_step.py [--presets nano,s] [--threads 2] [--windows 7] [--json]

The same LLaMA, sizes and batch as Evenkeel's presets, f32: forward, mean cross-entropy, backward, global clip and
AdamW. A figure is the median over timed windows of about `--window-seconds` each, after a warm-up; a wide spread
between min and max means that something else was running. Of AdamW by foreach, key/value heads repeated by hand and
an RMSNorm written out, none saves more than 3 % of CPU time per step (PyTorch 2.15, one thread, AVX-512).
"""

import argparse
import json
import statistics
import time
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

RMS_NORM_EPS, ROPE_THETA = 1e-6, 1e4


@dataclass
class Preset:
    """Extents named as in the code of Evenkeel: channels, MLP width, layers, heads, vocabulary, time, batch."""

    C: int
    F: int
    L: int
    H: int
    KV: int
    V: int
    T: int
    B: int


PRESETS = {
    "nano": Preset(128, 352, 4, 4, 2, 512, 128, 8),
    "s": Preset(256, 688, 6, 8, 4, 2048, 256, 8),
}


def linear(inputs, outputs):
    return nn.Linear(inputs, outputs, bias=False)


def rotate(x, cos, sin):
    """Rotary embedding in the rotate-half layout; x is (B, heads, T, D)."""
    x1, x2 = x.chunk(2, dim=-1)
    return torch.cat((x1 * cos - x2 * sin, x2 * cos + x1 * sin), dim=-1)


class Layer(nn.Module):
    def __init__(self, p):
        super().__init__()
        self.D = p.C // p.H
        self.input_norm = nn.RMSNorm(p.C, RMS_NORM_EPS)
        self.q, self.k, self.v = linear(p.C, p.C), linear(p.C, p.KV * self.D), linear(p.C, p.KV * self.D)
        self.o = linear(p.C, p.C)
        self.mlp_norm = nn.RMSNorm(p.C, RMS_NORM_EPS)
        self.gate, self.up, self.down = linear(p.C, p.F), linear(p.C, p.F), linear(p.F, p.C)

    def forward(self, x, cos, sin):
        B, T, _ = x.shape
        h = self.input_norm(x)
        q, k, v = (w(h).view(B, T, -1, self.D).transpose(1, 2) for w in (self.q, self.k, self.v))
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        x = x + self.o(y.transpose(1, 2).reshape(B, T, -1))
        h = self.mlp_norm(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Llama(nn.Module):
    def __init__(self, p):
        super().__init__()
        self.embedding = nn.Embedding(p.V, p.C)
        self.layers = nn.ModuleList(Layer(p) for _ in range(p.L))
        self.norm = nn.RMSNorm(p.C, RMS_NORM_EPS)
        self.head = linear(p.C, p.V)
        D = p.C // p.H
        angles = torch.arange(p.T)[:, None] * ROPE_THETA ** -(torch.arange(0, D, 2) / D)
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, x):
        h = self.embedding(x)
        for layer in self.layers:
            h = layer(h, self.cos, self.sin)
        return self.head(self.norm(h))


class Trainer:
    def __init__(self, preset):
        torch.manual_seed(0)
        self.model = Llama(preset)
        parameters = list(self.model.parameters())
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.1},
            {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95), eps=1e-8, fused=True)
        self.ids = torch.randint(preset.V, (16, preset.B, preset.T + 1))
        self.steps = 0

    def step(self):
        ids = self.ids[self.steps % len(self.ids)]
        logits = self.model(ids[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.steps += 1
        return loss.item()


def measure(preset, windows, window_seconds):
    """Tokens/s of each window."""
    trainer = Trainer(preset)
    for _ in range(3):
        trainer.step()
    start = time.perf_counter()
    trainer.step()
    steps = max(1, round(window_seconds / (time.perf_counter() - start)))
    figures = []
    for _ in range(windows):
        start = time.perf_counter()
        for _ in range(steps):
            trainer.step()
        figures.append(steps * preset.B * preset.T / (time.perf_counter() - start))
    return figures


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--presets", default="nano,s")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--windows", type=int, default=7)
    parser.add_argument("--window-seconds", type=float, default=3.0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = []
    for name in args.presets.split(","):
        figures = measure(PRESETS[name], args.windows, args.window_seconds)
        rows.append({"engine": f"PyTorch {torch.__version__} CPU eager", "threads": args.threads, "preset": name,
                     "tokens_per_s": round(statistics.median(figures)), "min": round(min(figures)),
                     "max": round(max(figures)), "windows": args.windows})
    if args.json:
        print(json.dumps(rows))
        return
    print("| engine | threads | preset | tokens/s (median) | min | max |\n|---|---|---|---|---|---|")
    for r in rows:
        print(f"| {r['engine']} | {r['threads']} | {r['preset']} | {r['tokens_per_s']:,} | {r['min']:,} | {r['max']:,} |")


if __name__ == "__main__":
    main()
