"""Makes assets/golden/tokenizers: small tokenizers of the kinds that published models have, by Hugging Face's own
library, and what it makes of difficult texts.

    pip install tokenizers==0.23.*
    python assets/golden/make_tokenizers.py
"""

import json
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

FOLDER = Path(__file__).parent / "tokenizers"

# Enough repetition for merges, and letters of one to four bytes.
CORPUS = [
    "It was a bright cold day in April, and the clocks were striking thirteen.\n",
    "The day was cold and the day was bright; they were striking, the bright clocks were.\n",
    "A dozen don'ts and won'ts, we'll say: 12 clocks, 120 days, 1200 hours.\n",
    "Il était une fois un été très froid; l'été était là.\n",
    "Die Uhren schlugen dreizehn, während der Tag kälter und kälter wurde.\n",
    "是日天气寒冷,时钟敲了十三下。\nクロックが十三回鳴った。\n",
    "emoji 🦀🦀 and 👩‍🚀 and tabs\t\tand   spaces\n\n\n",
] * 3

TEXTS = CORPUS[:7] + [
    "",
    " ",
    "\n",
    "  leading and trailing  ",
    "a\r\nb\r\n\r\nc",
    "unseen: Ångström, naïve, Ω, ﷽, 𝔘𝔫𝔦𝔠𝔬𝔡𝔢, \u0000, \u00a0, \u200b, e\u0301",
    "<|endoftext|>one<|endoftext|>two <s>three</s>",
    "<|endoftext",
    "'s 't 're've'm'll'd S'S 's",
    "____----====!!!??? ... a.b.c x=1;y=-2.5e10",
    "thirteenstrikingclocks" * 5,
    " \t \n \t x \u3000 y",
]

EOS = AddedToken("<|endoftext|>", special=True)


def byte_level():
    """As GPT-2; what `evenkeel tokenizer train` makes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=360,
        min_frequency=2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[EOS],
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def split_byte_level():
    """As LLaMA 3 and Qwen: a pattern of their own in front of the byte level, merges ignored for whole words."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    pattern = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=340, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=[], show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_special_tokens(["<|begin_of_text|>", "<|end_of_text|>"])
    tokenizer.add_tokens(["<tool>"])
    return tokenizer


def sentence_piece():
    """As LLaMA 2: spaces as U+2581, bytes for letters that the vocabulary lacks."""
    special = ["<unk>", "<s>", "</s>"]
    pieces = [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=special + pieces, limit_alphabet=60, show_progress=False)
    tokenizer.train_from_iterator([line for text in CORPUS for line in text.split(" ")], trainer)
    model = json.loads(tokenizer.to_str())
    model["added_tokens"] = [token for token in model["added_tokens"] if token["content"] in special]
    tokenizer = Tokenizer.from_str(json.dumps(model))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer


def unigram():
    """As T5 and its like."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=160, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def main():
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "corpus.json").write_text(json.dumps(CORPUS, ensure_ascii=False, indent=1) + "\n")
    for make in [byte_level, split_byte_level, sentence_piece, unigram]:
        tokenizer = make()
        name = make.__name__.replace("_", "-")
        tokenizer.save(str(FOLDER / f"{name}.json"), pretty=False)
        cases = []
        for text in TEXTS:
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            cases.append({"text": text, "ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=True)})
        rows = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
        (FOLDER / f"{name}.cases.json").write_text(f"[\n{rows}\n]\n")
        print(name, tokenizer.get_vocab_size())


if __name__ == "__main__":
    main()
