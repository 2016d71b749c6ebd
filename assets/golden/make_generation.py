"""Writes generation.json: greedy texts of the golden models, and what transformers' logits processors keep.

    python make_generation.py

Texts: from prompts of several lengths, the likeliest token again and again, without a cache, in f32; LLaMAs by transformers'
`generate` too. A text whose two likeliest tokens ever come nearer than MARGIN is refused: rounding could turn it.
Processors: the list that `generate` makes of a generation config, over random logits; stored are the probabilities that are left.
"""

import json
import sys
from pathlib import Path

import kat
import torch
from safetensors.torch import load_file
from transformers import GenerationConfig, LlamaForCausalLM

HERE = Path(__file__).parent
MARGIN = 1e-3
PROMPTS = [1, 2, 5, 9]
SETTINGS = [
    {},
    {"temperature": 0.7},
    {"temperature": 1.3, "top_k": 5},
    {"temperature": 0.9, "top_p": 0.8},
    {"temperature": 1.1, "min_p": 0.12},
    {"repetition_penalty": 1.4},
    {"temperature": 0.8, "top_k": 12, "top_p": 0.85, "min_p": 0.06, "repetition_penalty": 1.2},
    {"temperature": 2.0, "top_k": 20, "top_p": 0.5, "min_p": 0.3, "repetition_penalty": 0.7},
]


def load(folder):
    is_kat = json.loads((folder / "config.json").read_text())["model_type"] == "kat"
    model = kat.load(folder, torch.float32) if is_kat else LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model.eval(), is_kat


@torch.no_grad()
def greedy(model, is_kat, prompt, context):
    ids = list(prompt)
    while len(ids) < context:
        logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].double()
        best, second = logits.topk(2).values.tolist()
        if best - second < MARGIN:
            break
        ids.append(int(logits.argmax()))
    new = len(ids) - len(prompt)
    if new and not is_kat:
        config = GenerationConfig(max_new_tokens=new, do_sample=False, eos_token_id=None, pad_token_id=0)
        model.generation_config.eos_token_id = None
        start = torch.tensor([prompt])
        theirs = model.generate(start, attention_mask=torch.ones_like(start), generation_config=config)[0].tolist()
        if theirs != ids:
            sys.exit(f"{prompt}: generate gives {theirs}, the model alone {ids}")
    return ids[len(prompt):]


def texts():
    found = {}
    for folder in sorted(path for path in HERE.iterdir() if (path / "golden.safetensors").exists()):
        model, is_kat = load(folder)
        stream = load_file(folder / "golden.safetensors")["tokens"].flatten().tolist()
        context = min(model.config.max_position_embeddings, 24)
        prompts = [stream[40 * i : 40 * i + length] for i, length in enumerate(PROMPTS)]
        found[folder.name] = [{"prompt": p, "tokens": greedy(model, is_kat, p, context)} for p in prompts]
        print(folder.name, [len(text["tokens"]) for text in found[folder.name]], "tokens of", context)
    return found


def processors():
    model, _ = load(HERE / "llama-gqa")
    torch.manual_seed(3)
    found = []
    for settings in SETTINGS:
        logits = (2.0 * torch.randn(1, 40)).float()
        prompt = torch.randint(40, (1, 6))
        config = GenerationConfig(do_sample=True, **{"top_k": 0, **settings})
        chain = model._get_logits_processor(generation_config=config, input_ids_seq_length=6)
        print([type(step).__name__ for step in chain])
        left = torch.softmax(chain(prompt, logits.double()), -1)[0]
        row = {"settings": settings, "prompt": prompt[0].tolist(), "logits": logits[0].tolist(), "probabilities": left.tolist()}
        found.append(row)
    return found


def main():
    result = {"texts": texts(), "processors": processors()}
    lines = json.dumps(result).replace('{"prompt"', '\n{"prompt"').replace('{"settings"', '\n{"settings"')
    (HERE / "generation.json").write_text(lines + "\n")


if __name__ == "__main__":
    main()
