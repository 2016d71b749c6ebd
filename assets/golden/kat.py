"""The reference KAT: transformers' LLaMA whose MLPs are act1 -> fc1 -> act2 -> fc2, without biases.

act1 and act2 are group rationals, F(x) = P(x) / Q(x) for each element, with coefficients shared inside a group of
neighbouring channels. Only plain torch operations, so that autograd differentiates them; whatever the dtype of the
model, nothing is computed in another one.
"""

import json

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

# Adamdad/rational_kat_cu, kat_rational/init.json: a0..a5, b1..b4; these two sets fit both forms.
COEFFICIENTS = {
    "identity": ([0.0, 1.0, 0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]),
    "swish": (
        [3.054879741161051e-07, 0.5000007853744493, 0.24999783422824703, 0.05326628273219478, 0.005803034571292244,
         0.0002751961022402342],
        [-4.111554955950634e-06, 0.10652899335007572, -1.2690007399796238e-06, 0.0005502331264140556],
    ),
}
FORMS = ("abs_sum", "sum_abs")
# What config.json has beside LLaMA's fields.
RATIONAL_FIELDS = ("rational_groups", "rational_form", "rational_init", "rational_shared_numerator")


def magnitude(t):
    """|t| with derivative +1 at 0 (torch.abs has 0 there, which would freeze denominators that start at 0)."""
    return t * torch.where(t < 0, -1.0, 1.0)


def powers(t, highest):
    """t, t^2, ..., t^highest."""
    result = [t]
    while len(result) < highest:
        result.append(result[-1] * t)
    return result


def rational(x, a, b, form):
    """P(x) / Q(x): x (..., C), a (1 or G, 6), b (G, 4); channel c is in group c // (C / G).

    P = a0 + a1 x + ... + a5 x^5;  Q = 1 + |b1 x + ... + b4 x^4| (abs_sum)  or  1 + |b1||x| + ... + |b4||x|^4 (sum_abs).
    """
    z = x.unflatten(-1, (b.shape[0], -1))
    P = a[:, :1] + sum(a[:, i : i + 1] * p for i, p in enumerate(powers(z, 5), 1))
    if form == "abs_sum":
        Q = 1 + magnitude(sum(b[:, j : j + 1] * p for j, p in enumerate(powers(z, 4))))
    else:
        Q = 1 + sum(magnitude(b[:, j : j + 1]) * p for j, p in enumerate(powers(magnitude(z), 4)))
    return (P / Q).flatten(-2)


class GroupRational(nn.Module):
    def __init__(self, groups, form, shared_numerator, init):
        super().__init__()
        a, b = (torch.tensor(values) for values in COEFFICIENTS[init])
        self.form = form
        self.weight_numerator = nn.Parameter(a.repeat(1 if shared_numerator else groups, 1))
        self.weight_denominator = nn.Parameter(b.repeat(groups, 1))

    def forward(self, x):
        return rational(x, self.weight_numerator, self.weight_denominator, self.form)


class KatMlp(nn.Module):
    def __init__(self, C, F, groups, form, shared_numerator, inits):
        super().__init__()
        assert form in FORMS and C % groups == 0 and F % groups == 0, (form, C, F, groups)
        self.act1 = GroupRational(groups, form, shared_numerator, inits[0])
        self.fc1 = nn.Linear(C, F, bias=False)
        self.act2 = GroupRational(groups, form, shared_numerator, inits[1])
        self.fc2 = nn.Linear(F, C, bias=False)

    def forward(self, x):
        return self.fc2(self.act2(self.fc1(self.act1(x))))


def is_rational(name):
    """Whether a parameter is a rational's coefficients, which no decay and no rescaling touches."""
    return name.endswith((".weight_numerator", ".weight_denominator"))


def build(config):
    """A KAT in f32 from the fields of a config.json; the weights are torch's, the coefficients those of rational_init."""
    fields = {key: value for key, value in config.items() if key not in ("model_type", "architectures", *RATIONAL_FIELDS)}
    shape = LlamaConfig(**fields)
    model = LlamaForCausalLM(shape)
    for layer in model.model.layers:
        layer.mlp = KatMlp(shape.hidden_size, shape.intermediate_size, config.get("rational_groups", 8),
                           config.get("rational_form", "abs_sum"), config.get("rational_shared_numerator", True),
                           config.get("rational_init", ["identity", "swish"]))
    return model


def save(model, config, folder):
    """Writes config.json and model.safetensors: transformers' fields with the rational ones, one copy of a tied head."""
    model.config.save_pretrained(folder)
    path = folder / "config.json"
    written = json.loads(path.read_text()) | {key: config[key] for key in RATIONAL_FIELDS if key in config}
    written |= {"model_type": "kat", "architectures": ["KatForCausalLM"], "dtype": "float32"}
    path.write_text(json.dumps(dict(sorted(written.items())), indent=2) + "\n")
    tensors = {name: p.detach().contiguous() for name, p in model.named_parameters()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def load(folder, dtype):
    """The model of a KAT's folder. Missing, unexpected and misshapen tensors are errors."""
    config = json.loads((folder / "config.json").read_text())
    # The file has all coefficients, whatever set they started from.
    model = build(config | {"rational_init": ["identity", "identity"]})
    tensors = load_file(folder / "model.safetensors")
    if model.config.tie_word_embeddings:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    model.load_state_dict(tensors)
    return model.to(dtype)
