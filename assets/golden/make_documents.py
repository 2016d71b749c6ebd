"""Makes assets/golden/documents: the same little documents in every form that text comes in, by other programs than ours.

    pip install pyarrow
    python assets/golden/make_documents.py
"""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

FOLDER = Path(__file__).parent / "documents"

WORDS = ["boat", "river", "été", "ein", "кот", "猫", "🦀", "and", "the", "of", "keel", "even", "tail."]


def documents():
    """120 documents, some of one word, one of many lines; no two neighbours alike."""
    state, texts = 7, []
    for i in range(120):
        words = []
        for _ in range(1 + i % 23):
            state = (state * 1103515245 + 12345) % 2**31
            words.append(WORDS[state // 65536 % len(WORDS)])
        texts.append(f"{i} " + " ".join(words))
    texts[60] = "\n".join(texts[:10])
    return texts


def main():
    FOLDER.mkdir(exist_ok=True)
    texts = documents()
    lines = "".join(json.dumps({"id": i, "text": text, "meta": {"text": "not this"}}, ensure_ascii=i % 2 == 0) + "\n" for i, text in enumerate(texts))
    (FOLDER / "documents.jsonl").write_text(lines, encoding="utf-8")
    half = lines.index("\n", len(lines) // 2) + 1
    first, second = lines[:half].encode(), lines[half:].encode()
    # Two members one after the other, as `cat a.gz b.gz` makes them; no time in the header.
    (FOLDER / "documents.jsonl.gz").write_bytes(gzip.compress(first, mtime=0) + gzip.compress(second, mtime=0))
    zstd = b"".join(bytes(pa.compress(part, codec="zstd", asbytes=True)) for part in [first, second])
    # A frame without data between them: magic, length, content.
    middle = b"\x50\x2a\x4d\x18" + (3).to_bytes(4, "little") + b"abc"
    frame = len(pa.compress(first, codec="zstd", asbytes=True))
    (FOLDER / "documents.jsonl.zst").write_bytes(zstd[:frame] + middle + zstd[frame:])

    rows = texts[:40] + [None] + texts[40:]
    table = pa.table({"id": list(range(len(rows))), "text": pa.array(rows, pa.string()), "url": ["x"] * len(rows)})
    for name, options in {
        "plain": {"compression": "none"},
        "snappy": {"compression": "snappy"},
        "gzip": {"compression": "gzip"},
        "zstd": {"compression": "zstd"},
        "zstd-pages-2": {"compression": "zstd", "data_page_version": "2.0", "use_dictionary": False},
    }.items():
        pq.write_table(table, FOLDER / f"{name}.parquet", row_group_size=50, data_page_size=512, write_statistics=False, store_schema=False, **options)


if __name__ == "__main__":
    main()
