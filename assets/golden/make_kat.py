"""Writes the golden KAT folders beside this file. README.md says what is in them.

    python make_kat.py [OUT_DIR]
"""

import copy

import kat
import torch
from fixture import write_all, write_golden
from reference import Recipe, load, mean_loss, randomize

CASES = {
    "kat-abs-sum": dict(
        seed=12, B=2, T=17, std=0.12, spread=dict(act1=0.0, act2=1.0),
        recipe=Recipe(lr=2e-3, grad_clip=4.75),
        config=dict(hidden_size=32, intermediate_size=52, num_hidden_layers=2, num_attention_heads=4,
                    num_key_value_heads=4, vocab_size=73, max_position_embeddings=32,
                    rational_groups=4, rational_form="abs_sum", rational_init=["identity", "swish"],
                    rational_shared_numerator=True),
    ),
    "kat-sum-abs": dict(
        seed=17, B=3, T=15, std=0.12, spread=dict(act1=1.0, act2=1.0),
        recipe=Recipe(lr=2e-3, grad_clip=3.4),
        config=dict(hidden_size=40, intermediate_size=72, num_hidden_layers=2, num_attention_heads=4,
                    num_key_value_heads=2, vocab_size=61, max_position_embeddings=32, tie_word_embeddings=True,
                    rms_norm_eps=1e-5, rational_groups=8, rational_form="sum_abs",
                    rational_init=["identity", "swish"], rational_shared_numerator=False),
    ),
}
# Deviations of a0..a5 and b1..b4: each term moves F by about as much where |x| is 2.
NUMERATOR_SPREAD = [0.1, 0.1, 0.05, 0.02, 0.01, 0.005]
DENOMINATOR_SPREAD = [0.1, 0.05, 0.02, 0.01]
# What rounding in f32 may do to an activation or to a coefficient, with room.
UNSURE = 1e-6


@torch.no_grad()
def spread_coefficients(model, generator, spread):
    for layer in model.model.layers:
        for name, factor in spread.items():
            act = getattr(layer.mlp, name)
            for parameter, deviation in ((act.weight_numerator, NUMERATOR_SPREAD),
                                         (act.weight_denominator, DENOMINATOR_SPREAD)):
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.add_(factor * torch.tensor(deviation) * noise)


def write_initial(folder, case):
    """config.json and model.safetensors; returns the generator for the tokens."""
    model = kat.build(case["config"])
    generator = torch.Generator().manual_seed(case["seed"])
    randomize(model, generator, case["std"])
    spread_coefficients(model, generator, case["spread"])
    kat.save(model, case["config"], folder)
    return generator


def refuse_kinks(act, inputs):
    """Every sign that the backward of `act` takes must survive rounding; coefficients of exactly 0 have no doubtful one."""
    b, z = act.weight_denominator.detach(), inputs[0].detach().unflatten(-1, (act.weight_denominator.shape[0], -1))
    if not b.any():
        return
    assert (b[b != 0].abs() > UNSURE).all(), f"a coefficient lies at a kink: {b}"
    if act.form == "sum_abs":
        assert (z.abs() > UNSURE).all(), f"an activation lies at the kink: {z.abs().min()}"
        return
    terms = [b[:, j : j + 1] * p for j, p in enumerate(kat.powers(z, 4))]
    slope = sum(j * (b[:, j - 1 : j] * z ** (j - 1)).abs() for j in range(1, 5))
    margin = sum(terms).abs() / (slope * z.abs().clamp(min=1))
    assert (margin > UNSURE).all(), f"an activation lies at a kink: {margin.min()}"


def check_gradients(model, x, y):
    """Gradients of some coefficients against central differences of the loss in f64."""
    model = copy.deepcopy(model)
    mean_loss(model, x, y)[0].backward()
    checked = 0
    for name, p in model.named_parameters():
        # A denominator of 0 sits on the kink: its gradient is the convention sgn(0) = +1, not a difference quotient.
        if not kat.is_rational(name) or not p.any(dim=-1).all():
            continue
        for index in ((0, 1), (0, p.shape[1] - 1), (p.shape[0] - 1, 2)):
            kept, losses, h = p[index].item(), [], 1e-6
            with torch.no_grad():
                for sign in (1, -1):
                    p[index] = kept + sign * h
                    losses.append(mean_loss(model, x, y)[0].item())
                p[index] = kept
            difference = (losses[0] - losses[1]) / (2 * h)
            assert abs(difference - p.grad[index].item()) < 1e-7, (name, index, difference, p.grad[index].item())
            checked += 1
    print(f"  {checked} gradients of coefficients agree with differences of the loss")


def watch(model, tokens, targets):
    check_gradients(model, tokens[0], targets[0])
    for module in model.modules():
        if isinstance(module, kat.GroupRational):
            module.register_forward_pre_hook(refuse_kinks)


def check_reload(folder):
    """What `load` gives has every parameter that was written, and a tied head stays tied."""
    model = load(folder, torch.float64)
    tied = model.lm_head.weight is model.model.embed_tokens.weight
    assert tied == model.config.tie_word_embeddings and all(p.dtype == torch.float64 for p in model.parameters())


def write_case(folder, case):
    generator = write_initial(folder, case)
    check_reload(folder)
    write_golden(folder, case, case["config"]["vocab_size"], generator, watch)


if __name__ == "__main__":
    write_all(CASES, write_case)
