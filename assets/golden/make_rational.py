"""Writes rational.safetensors beside this file: a group rational and its gradients in f64. README.md says what is in it.

    python make_rational.py [OUT_DIR]
"""

import json
import sys
from pathlib import Path

import torch
from kat import COEFFICIENTS, FORMS, rational
from safetensors.torch import save_file

# Name: groups, width of a group, rows, numerators, whether it starts at the exact identity (b = 0).
CASES = {
    "shared": (8, 4, 9, 1, False),
    "per_group": (4, 8, 9, 4, False),
    "width_13": (3, 13, 7, 1, False),
    "identity": (4, 6, 7, 1, True),
}
SWISH = {-3.0: (-.14227882, -.0880869), -1.7: (-.26259069, -.06756342), -.5: (-.18877033, .26003976),
         0.0: (3.05e-7, .50000079), .3: (.17233296, .64777881), 1.0: (.73105834, .92767147),
         2.5: (2.31035454, 1.09940355), 6.0: (5.97754935, 1.00313858)}
# F, dF/dx, dF/da, dF/db for coefficients of both signs, confirmed by finite differences; where x < 0 the forms agree.
MIXED_A, MIXED_B = [.2, -.4, .9, -.2, .05, .01], [.9, -.7, .25, -.1]
LEFT = {
    -2.0: (.72608696, -.00127599, (.108696, -.217391, .434783, -.869565, 1.739130, -3.478261),
           (-.157845, .315690, -.631380, 1.262760)),
    -.75: (.50051797, -.40094406, (.453338, -.340004, .255003, -.191252, .143439, -.107579),
           (-.170178, .127633, -.095725, .071794)),
}
MIXED = {
    "sum_abs": LEFT | {
        .25: (.12044339, -.11086196, (.785517, .196379, .049095, .012274, .003068, .000767),
              (-.023653, .005913, -.001478, .000370)),
        1.5: (.24247630, .07851646, (.189573, .284360, .426540, .639810, .959716, 1.439573),
              (-.068951, .103426, -.155139, .232708)),
    },
    "abs_sum": LEFT | {
        .25: (.12941807, -.05116390, (.844049, .211012, .052753, .013188, .003297, .000824),
              (-.027309, -.006827, -.001707, -.000427)),
        1.5: (1.14971910, 2.57955751, (.898876, 1.348315, 2.022472, 3.033708, 4.550562, 6.825843),
              (-1.550183, -2.325275, -3.487912, -5.231868)),
    },
}


def differentiate(x, a, b, form, dy):
    """y, dx, da, db by autograd."""
    x, a, b = (t.clone().requires_grad_() for t in (x, a, b))
    y = rational(x, a, b, form)
    return y.detach(), *torch.autograd.grad(y, (x, a, b), dy)


def by_formula(x, a, b, form, dy):
    """The same from the written-out derivative, element by element, with sgn(0) = +1."""
    G, width = b.shape[0], x.shape[1] // b.shape[0]
    y, dx, da, db = (torch.zeros_like(t) for t in (x, x, a, b))
    sgn = lambda t: -1.0 if t < 0 else 1.0
    for row in range(x.shape[0]):
        for c in range(x.shape[1]):
            g = c // width
            n = g if a.shape[0] > 1 else 0
            X, A, B = x[row, c].item(), a[n].tolist(), b[g].tolist()
            P = sum(A[i] * X**i for i in range(6))
            R = sum(i * A[i] * X ** (i - 1) for i in range(1, 6))
            if form == "abs_sum":
                inner = sum(B[j] * X ** (j + 1) for j in range(4))
                Q, S = 1 + abs(inner), sgn(inner) * sum((j + 1) * B[j] * X**j for j in range(4))
                dQ = [sgn(inner) * X ** (j + 1) for j in range(4)]
            else:
                Q = 1 + sum(abs(B[j]) * abs(X) ** (j + 1) for j in range(4))
                S = sgn(X) * sum((j + 1) * abs(B[j]) * abs(X) ** j for j in range(4))
                dQ = [sgn(B[j]) * abs(X) ** (j + 1) for j in range(4)]
            upstream = dy[row, c].item()
            y[row, c], dx[row, c] = P / Q, upstream * (R / Q - S * P / Q**2)
            da[n] += upstream * torch.tensor([X**i / Q for i in range(6)], dtype=torch.float64)
            db[g] += upstream * torch.tensor([-P / Q**2 * q for q in dQ], dtype=torch.float64)
    return y, dx, da, db


def check_points():
    """`rational` against tabulated values: swish in the form sum_abs, and a set whose terms differ in sign."""
    def at(x, a, b, form):
        columns = (torch.tensor([t], dtype=torch.float64) for t in ([x], a, b))
        return [t.flatten().tolist() for t in differentiate(*columns, form, torch.ones(1, 1, dtype=torch.float64))]

    def close(got, expected):
        # The values are given to 8 decimals for F and dx, to 6 for da and db.
        return all(abs(g - e) < 1e-6 for g, e in zip(got, expected, strict=True))

    for x, (y, dx) in SWISH.items():
        got = at(x, *COEFFICIENTS["swish"], "sum_abs")
        assert close(got[0] + got[1], (y, dx)), (x, got)
    for form in FORMS:
        for x, (y, dx, da, db) in MIXED[form].items():
            got = at(x, MIXED_A, MIXED_B, form)
            assert close(got[0], [y]) and close(got[1], [dx]) and close(got[2], da) and close(got[3], db), (form, x, got)


def draw(case, generator):
    """x, dy, a, b, each a number of f32, so that a kernel reads exactly these."""
    groups, width, rows, numerators, identity = case
    normal = lambda *shape: torch.randn(shape, generator=generator).double()
    x, dy = 1.5 * normal(rows, groups * width), normal(rows, groups * width)
    # Both zeros, where sgn(0) = +1 counts.
    x[0, 0], x[1, -1] = 0.0, -0.0
    a, b = (torch.tensor(values).double() for values in COEFFICIENTS["identity" if identity else "swish"])
    a, b = a.repeat(numerators, 1), b.repeat(groups, 1)
    if not identity:
        a = a + normal(numerators, 6) * torch.tensor([0.2, 0.2, 0.1, 0.05, 0.02, 0.01])
        b = b + normal(groups, 4) * torch.tensor([0.5, 0.3, 0.1, 0.05])
        # A coefficient that is 0 among others that are not.
        b[-1, 1] = 0.0
    return [t.float().double() for t in (x, dy, a, b)]


def check_case(name, inputs, form, results):
    x, dy, a, b = inputs
    for got, expected in zip(results, by_formula(x, a, b, form, dy), strict=True):
        error = (got - expected).abs() / expected.abs().clamp(min=1)
        assert error.max() < 1e-12, f"{name}: autograd and the formula differ by {error.max()}"
    inner = sum((b[:, j : j + 1] * x.unflatten(-1, (b.shape[0], -1)) ** (j + 1) for j in range(4))).abs()
    assert not inner[(inner > 0)].numel() or inner[inner > 0].min() > 1e-5, f"{name}: the sign of A(x) is in doubt"


def main():
    check_points()
    generator = torch.Generator().manual_seed(21)
    tensors, cases = {}, {}
    for kind, case in CASES.items():
        inputs = draw(case, generator)
        x, dy, a, b = inputs
        for form in FORMS:
            name = f"{form}_{kind}"
            results = differentiate(x, a, b, form, dy)
            check_case(name, inputs, form, results)
            named = dict(zip(("x", "dy", "a", "b", "y", "dx", "da", "db"), (*inputs, *results)))
            tensors |= {f"{name}.{key}": t.clone() for key, t in named.items()}
            cases[name] = {"form": form, "groups": case[0], "shared_numerator": case[3] == 1}
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    out.mkdir(parents=True, exist_ok=True)
    save_file(tensors, out / "rational.safetensors", {"cases": json.dumps(cases)})
    print(f"rational.safetensors: {len(cases)} cases, {len(tensors)} tensors, as the formula and the tabulated points")


if __name__ == "__main__":
    main()
