"""Shows both directions with the real library: what `evenkeel export` writes loads in transformers, and what
transformers writes loads in Evenkeel.

    python check_exchange.py EVENKEEL

EVENKEEL is the binary. Everything is computed on the CPU, in a folder that goes when it is done.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from check_transformers import evaluate
from safetensors import safe_open
from transformers import LlamaConfig, LlamaForCausalLM
from reference import randomize

HERE = Path(__file__).parent
DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
# The bound of the exchange, and that of two ways to sum a mean loss in f32.
LOGITS, LOSS = 1e-4, 1e-5
SEQ_LEN = 16


def load_clean(folder, dtype):
    model, info = LlamaForCausalLM.from_pretrained(folder, dtype=dtype, output_loading_info=True)
    problems = {kind: found for kind, found in info.items() if found}
    assert not problems, f"{folder} does not load cleanly: {problems}"
    return model.eval()


@torch.no_grad()
def check_export(evenkeel, source, out, dtype, shard):
    """Exports `source`: the weights are torch's own rounding of them, f32 has the logits of the golden data."""
    command = [evenkeel, "export", "--model", source, "--out", out, "--dtype", dtype, "--max-shard-size", shard]
    subprocess.run(command, check=True, capture_output=True)
    stored, original = load_clean(out, "auto"), load_clean(source, torch.float32)
    assert stored.config.dtype == DTYPES[dtype], stored.config.dtype
    for (name, got), expected in zip(stored.named_parameters(), original.parameters(), strict=True):
        assert got.dtype == DTYPES[dtype] and torch.equal(got, expected.to(DTYPES[dtype])), f"{out}: {name}"
    with safe_open(source / "golden.safetensors", "pt") as golden:
        tokens, expected = golden.get_tensor("tokens")[0].long(), golden.get_tensor("logits")
    distance = (load_clean(out, torch.float32)(tokens, use_cache=False).logits - expected).abs().max().item()
    assert distance < LOGITS or dtype != "f32", f"{out}: logits differ by {distance}"
    files = len(list(out.glob("*.safetensors")))
    print(f"{source.name} exported as {dtype} in {files} files loads in transformers, logits differ by {distance:.1e}")


def check_import(evenkeel, folder, data, config, dtype, shard):
    """Saves a new model with transformers: Evenkeel has its loss."""
    model = LlamaForCausalLM(LlamaConfig(vocab_size=128, max_position_embeddings=64, **config))
    randomize(model, torch.Generator().manual_seed(len(folder.name)), 0.1)
    model.to(DTYPES[dtype]).save_pretrained(folder, max_shard_size=shard)
    total, count = evaluate(load_clean(folder, torch.float32), torch.frombuffer(bytearray(data.read_bytes()),
                                                                               dtype=torch.uint8).long(), SEQ_LEN)
    command = [evenkeel, "--adapter", "cpu", "eval", "--model", folder, "--data", data, "--seq-len", str(SEQ_LEN), "--json"]
    line = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    difference = abs(json.loads(line)["loss"] - total / count)
    assert difference < LOSS, f"{folder}: losses differ by {difference}"
    print(f"{folder.name} of transformers as {dtype} in {len(list(folder.glob('*.safetensors')))} files "
          f"loads in Evenkeel, losses differ by {difference:.1e}")


def main():
    evenkeel = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        for source in ("llama-gqa", "llama-tied", "llama-headdim", "exchange-f16", "exchange-tied-bf16", "exchange-sharded"):
            for dtype in DTYPES:
                for shard in ("5GB", "8KB"):
                    check_export(evenkeel, HERE / source, place / f"{source}-{dtype}-{shard}", dtype, shard)
        data = place / "words.txt"
        data.write_bytes(b"A word follows another word, and so on until the end of the line. " * 30)
        shapes = {
            "gqa": dict(hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=2),
            "tied": dict(hidden_size=32, intermediate_size=56, num_hidden_layers=2, num_attention_heads=4,
                         tie_word_embeddings=True),
            "wide-heads": dict(hidden_size=40, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, head_dim=24,
                               rope_parameters=dict(rope_type="default", rope_theta=5e5)),
        }
        for name, config in shapes.items():
            for dtype in DTYPES:
                for shard in ("5GB", "20KB"):
                    check_import(evenkeel, place / f"{name}-{dtype}-{shard}", data, config, dtype, shard)


if __name__ == "__main__":
    main()
