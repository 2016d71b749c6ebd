"""The reference trainer: transformers' LlamaForCausalLM, or a KAT on top of it, exact to f64, under torch's AdamW or
NovoGrad from its formulas.

transformers' LLaMA computes RMSNorm and the rotary tables in f32 whatever the dtype of the model. `load` with
float64 replaces exactly these two forwards by the same formula without the casts; everything else is theirs.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import kat
import torch
import transformers
from transformers import LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm, LlamaRotaryEmbedding

transformers.utils.logging.disable_progress_bar()
torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)


@dataclass
class Recipe:
    """Hyper-parameters of a run, named as in Evenkeel's run file (betas = [beta1, beta2])."""

    steps: int = 20
    lr: float = 3e-3
    betas: tuple = (0.9, 0.95)
    eps: float = 1e-8
    weight_decay: float = 0.1
    grad_clip: float = 1.0  # 0 = off
    schedule: str = "cosine"
    warmup_steps: int = 3
    min_lr_ratio: float = 0.1
    grad_accumulation: int = 1
    kind: str = "adamw"
    no_decay: tuple = ()  # names of modules, such as "o_proj"

    def lr_at(self, step):
        """Learning rate of `step`, counted from 1."""
        if step <= self.warmup_steps:
            return self.lr * step / self.warmup_steps
        if self.schedule == "constant":
            return self.lr
        p = (step - self.warmup_steps) / (self.steps - self.warmup_steps)
        return self.lr * (self.min_lr_ratio + (1 - self.min_lr_ratio) * 0.5 * (1 + math.cos(math.pi * p)))


@dataclass
class Tvr:
    """Target variance rescaling, named as in Evenkeel's run file."""

    target_std: float = 0.01
    interval: int = 50
    threshold: float = 1.2
    depth_scaled: bool = False
    exclude: tuple = ()  # names of modules, such as "o_proj"

    def fires_at(self, step):
        """Whether it looks at the weights after the update of `step`, counted from 1."""
        return step > 1 and (step - 1) % self.interval == 0

    @torch.no_grad()
    def rescale(self, parameters):
        """Brings each matrix inside the layers that spreads too far back to its target; each one's std / target."""
        ratios = {}
        for name, W in parameters.items():
            parts = name.split(".")
            inside = parts[:2] == ["model", "layers"] and W.ndim == 2 and not kat.is_rational(name)
            if not inside or set(parts) & set(self.exclude):
                continue
            target = self.target_std / (math.sqrt(int(parts[2]) + 1) if self.depth_scaled else 1)
            mean = W.mean()
            std = W.std(correction=1)
            ratios[name] = (std / target).item()
            if ratios[name] > self.threshold:
                W.copy_((W - mean) / std * target + mean)
        return ratios


def rms_norm_forward(self, x):
    return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))


@torch.no_grad()
def rotary_forward(self, x, position_ids):
    D = self.config.head_dim
    inv_freq = self.config.rope_parameters["rope_theta"] ** -(torch.arange(0, D, 2, dtype=x.dtype) / D)
    freqs = position_ids[..., None].to(x.dtype) * inv_freq
    emb = torch.cat((freqs, freqs), dim=-1)
    return emb.cos(), emb.sin()


def load(folder, dtype):
    """The model of a checkpoint folder; with torch.float64 every intermediate is f64."""
    folder = Path(folder)
    if json.loads((folder / "config.json").read_text()).get("model_type") == "kat":
        model = kat.load(folder, dtype)
    else:
        model = LlamaForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa")
    if dtype == torch.float64:
        for module in model.modules():
            if isinstance(module, LlamaRMSNorm):
                module.forward = rms_norm_forward.__get__(module)
            elif isinstance(module, LlamaRotaryEmbedding):
                module.forward = rotary_forward.__get__(module)
    return model.train()


def randomize(model, generator, std):
    """Matrices ~ N(0, std^2), norm weights ~ N(1, 0.2^2): far enough from a usual start that a mistake shows.

    Rational coefficients stay.
    """
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if kat.is_rational(name):
                continue
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(noise * std if parameter.ndim > 1 else 1 + 0.2 * noise)


def skewed_tokens(V, count, generator):
    """`count` ids < V: Zipf over a random order of the ids, each token repeating the one three back a third of the time."""
    order = torch.randperm(V, generator=generator)
    weights = 1.0 / torch.arange(1, V + 1, dtype=torch.float64)
    ids = order[torch.multinomial(weights, count, replacement=True, generator=generator)]
    repeat = torch.rand(count, generator=generator) < 1 / 3
    for i in range(3, count):
        if repeat[i]:
            ids[i] = ids[i - 3]
    return ids


def sequential_blocks(stream, count, B, T):
    """Micro-batch i reads stream[i*B*T .. (i+1)*B*T] inclusive: tokens are all but the last, targets all but the first."""
    tokens = stream[: count * B * T].reshape(count, B, T)
    targets = stream[1 : count * B * T + 1].reshape(count, B, T)
    return tokens, targets


def mean_loss(model, x, y):
    """Mean cross-entropy in nats, and the logits it came from."""
    logits = model(input_ids=x, use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten()), logits


class NovoGrad(torch.optim.Optimizer):
    """NovoGrad (Ginsburg et al. 2019, arXiv 1905.11286), from its formulas: v is one number per tensor.

    v = |g|^2 at the first step, then beta2 v + (1 - beta2) |g|^2;  m = beta1 m + g / sqrt(v + eps) + weight_decay w;
    w = w - lr m.  No gradient averaging, no correction for the start.
    """

    def __init__(self, groups, betas, eps):
        super().__init__(groups, {"lr": 0.0, "betas": betas, "eps": eps, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for w in group["params"]:
                state, norm2 = self.state[w], (w.grad * w.grad).sum()
                if not state:
                    state["v"], state["m"] = norm2, torch.zeros_like(w)
                else:
                    state["v"] = beta2 * state["v"] + (1 - beta2) * norm2
                ghat = w.grad / torch.sqrt(state["v"] + group["eps"]) + group["weight_decay"] * w
                state["m"] = beta1 * state["m"] + ghat
                w -= group["lr"] * state["m"]


def make_optimizer(parameters, recipe):
    """The recipe's update rule. Matrices and embeddings decay, unless a module that `no_decay` names holds them."""
    decayed = {name: p.ndim > 1 and not kat.is_rational(name) and not set(name.split(".")) & set(recipe.no_decay)
               for name, p in parameters.items()}
    groups = [{"params": [p for name, p in parameters.items() if decayed[name] == decay],
               "weight_decay": recipe.weight_decay if decay else 0.0} for decay in (True, False)]
    rule = {"adamw": torch.optim.AdamW, "novograd": NovoGrad}[recipe.kind]
    return rule(groups, betas=recipe.betas, eps=recipe.eps)


@dataclass
class Trace:
    """What a run leaves: losses before each update, gradient norms before clipping, and step 1 in full."""

    losses: list
    grad_norms: list
    lrs: list
    logits: torch.Tensor  # of the first micro-batch
    grads: dict  # of step 1, before clipping
    tvr_ratios: list  # of each step: std / target of every matrix, empty where TVR does not look


def train(model, tokens, targets, recipe, tvr=None):
    """Trains `model` in place on micro-batches taken in order."""
    parameters = dict(model.named_parameters())
    optimizer = make_optimizer(parameters, recipe)
    trace = Trace([], [], [], None, None, [])
    for step in range(1, recipe.steps + 1):
        optimizer.zero_grad()
        loss = 0.0
        for i in range((step - 1) * recipe.grad_accumulation, step * recipe.grad_accumulation):
            part, logits = mean_loss(model, tokens[i], targets[i])
            (part / recipe.grad_accumulation).backward()
            loss += part.item() / recipe.grad_accumulation
            if trace.logits is None:
                trace.logits = logits.detach()
        if step == 1:
            trace.grads = {name: p.grad.clone() for name, p in parameters.items()}
        norm = torch.nn.utils.clip_grad_norm_(parameters.values(), recipe.grad_clip or math.inf)
        lr = recipe.lr_at(step)
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
        trace.tvr_ratios.append(tvr.rescale(parameters) if tvr and tvr.fires_at(step) else {})
        trace.losses.append(loss)
        trace.grad_norms.append(norm.item())
        trace.lrs.append(lr)
    return trace
