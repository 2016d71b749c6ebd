"""PyTorch's training step on Evenkeel's presets, for `run.py`.

    python torch_step.py speed FOLDER --batch B --seconds S [--device cuda] [--compile] [--bf16]
    python torch_step.py losses FOLDER --batch B --steps N [--device cuda]

FOLDER holds a LLaMA in Hugging Face's layout and `tokens.bin`, one stream of tokens (u16) whose step s reads
`[s B T, (s+1) B T]`. f32: forward, mean cross-entropy, backward, global clip and AdamW. `speed` prints the time to the
first step, counted from the start of the process, and tokens/s by the median of the steps; `losses` prints the losses without clipping, as Burn
can only clip each tensor by its own norm. Of AdamW by foreach, key/value heads repeated by hand and an RMSNorm written
out, none saves more than 3 % of CPU time per step (PyTorch 2.15, one thread, AVX-512).
"""

import time

START = time.perf_counter()

import argparse
import json
import statistics
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

# Bytes before the tokens; steps before the timed ones.
HEADER, WARM = 1024, 3


def linear(inputs, outputs):
    return nn.Linear(inputs, outputs, bias=False)


def rotate(x, cos, sin):
    """Rotary embedding in the rotate-half layout; x is (B, heads, T, D)."""
    x1, x2 = x.chunk(2, dim=-1)
    return torch.cat((x1 * cos - x2 * sin, x2 * cos + x1 * sin), dim=-1)


class Attention(nn.Module):
    def __init__(self, C, H, KV):
        super().__init__()
        self.D = C // H
        self.q_proj, self.o_proj = linear(C, C), linear(C, C)
        self.k_proj, self.v_proj = linear(C, KV * self.D), linear(C, KV * self.D)

    def forward(self, x, cos, sin):
        B, T, _ = x.shape
        q, k, v = (w(x).view(B, T, -1, self.D).transpose(1, 2) for w in (self.q_proj, self.k_proj, self.v_proj))
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return self.o_proj(y.transpose(1, 2).reshape(B, T, -1))


class Mlp(nn.Module):
    def __init__(self, C, width):
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = linear(C, width), linear(C, width), linear(width, C)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, config):
        super().__init__()
        C, eps = config["hidden_size"], config["rms_norm_eps"]
        self.input_layernorm, self.post_attention_layernorm = nn.RMSNorm(C, eps), nn.RMSNorm(C, eps)
        self.self_attn = Attention(C, config["num_attention_heads"], config["num_key_value_heads"])
        self.mlp = Mlp(C, config["intermediate_size"])

    def forward(self, x, cos, sin):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nn.Module):
    """Modules are called as Hugging Face's, so that its checkpoints load as they are."""

    def __init__(self, config):
        super().__init__()
        C, V, T = config["hidden_size"], config["vocab_size"], config["max_position_embeddings"]
        D = C // config["num_attention_heads"]
        layers = nn.ModuleList(Layer(config) for _ in range(config["num_hidden_layers"]))
        norm = nn.RMSNorm(C, config["rms_norm_eps"])
        self.model = nn.ModuleDict({"embed_tokens": nn.Embedding(V, C), "layers": layers, "norm": norm})
        self.lm_head = linear(C, V)
        frequencies = config["rope_theta"] ** -(torch.arange(0, D, 2, dtype=torch.float64) / D)
        angles = torch.arange(T)[:, None] * frequencies
        self.register_buffer("cos", angles.cos().float(), persistent=False)
        self.register_buffer("sin", angles.sin().float(), persistent=False)

    def forward(self, ids):
        x = self.model["embed_tokens"](ids)
        for layer in self.model["layers"]:
            x = layer(x, self.cos, self.sin)
        return self.lm_head(self.model["norm"](x))


class Training:
    def __init__(self, args):
        folder = Path(args.folder)
        config = json.loads((folder / "config.json").read_text())
        self.device, self.clip = args.device, args.command == "speed"
        self.model = Llama(config)
        self.model.load_state_dict(load_file(folder / "model.safetensors"))
        self.model.to(self.device)
        parameters = list(self.model.parameters())
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.1},
            {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95), eps=1e-8, fused=True)
        tokens = np.fromfile(folder / "tokens.bin", dtype=np.uint16, offset=HEADER).astype(np.int64)
        self.tokens = torch.from_numpy(tokens)
        self.shape = (args.batch, config["max_position_embeddings"])
        self.rows = args.batch * config["max_position_embeddings"]
        self.steps = 0
        mixed = args.command == "speed" and args.bf16
        self.autocast = torch.autocast(self.device, torch.bfloat16) if mixed else nullcontext()
        self.loss = torch.compile(self.mean_loss) if args.command == "speed" and args.compile else self.mean_loss

    def mean_loss(self, ids, targets):
        return F.cross_entropy(self.model(ids).flatten(0, 1).float(), targets)

    def step(self):
        """One step; the loss before it."""
        start = self.steps % ((len(self.tokens) - 1) // self.rows) * self.rows
        ids = self.tokens[start : start + self.rows].view(self.shape).to(self.device)
        targets = self.tokens[start + 1 : start + 1 + self.rows].to(self.device)
        with self.autocast:
            loss = self.loss(ids, targets)
        self.optimizer.zero_grad()
        loss.backward()
        if self.clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.steps += 1
        return loss.item()

    def wait(self):
        if self.device == "cuda":
            torch.cuda.synchronize()


def speed(training, seconds):
    training.step()
    training.wait()
    first_step = time.perf_counter() - START
    for _ in range(1, WARM):
        training.step()
    training.wait()
    times, last = [], time.perf_counter()
    while len(times) < 3 or sum(times) < seconds:
        training.step()
        training.wait()
        now = time.perf_counter()
        times.append(now - last)
        last = now
    return {"first_step_s": first_step, "tokens_per_s": training.rows / statistics.median(times), "steps": len(times)}


def main():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("speed", "losses"):
        command = commands.add_parser(name)
        command.add_argument("folder")
        command.add_argument("--batch", type=int, required=True)
        command.add_argument("--device", default="cpu")
        command.add_argument("--threads", type=int)
        if name == "speed":
            command.add_argument("--seconds", type=float, default=3.0)
            command.add_argument("--compile", action="store_true")
            command.add_argument("--bf16", action="store_true")
        else:
            command.add_argument("--steps", type=int, default=8)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    training = Training(args)
    if args.command == "speed":
        print(json.dumps(speed(training, args.seconds)))
    else:
        print(json.dumps({"losses": [training.step() for _ in range(args.steps)]}))


if __name__ == "__main__":
    main()
