#!/usr/bin/env python3
"""Writes classes.json: which characters expressions of one character match in Hugging Face's tokenizers, for each as how many
and as a hash (FNV-1a over their code points as three bytes, the lowest first).

usage: classes.py    (needs tokenizers)
"""
import json
import pathlib

import tokenizers
from tokenizers import Regex, normalizers

TEXT = "".join(chr(cp) for cp in range(0x110000) if not 0xD800 <= cp < 0xE000)
NAMES = """L LC Lu Ll Lt Lm Lo M Mn Mc Me N Nd Nl No P Pc Pd Ps Pe Pi Pf Po S Sm Sc Sk So Z Zs Zl Zp C Cc Cf Co Cn Letter
uppercase-letter Other_Number Han Hiragana katakana Hangul Latin Greek Cyrillic Arabic Hebrew Thai Devanagari Common Inherited
Unknown Garay Kirat_Rai Canadian_Aboriginal""".split()
EXPRESSIONS = [rf"\p{{{name}}}" for name in NAMES] + [
    r"\P{L}", r"\p{^L}", r"\P{^L}", r"[\P{L}]", r"[\P{Mn}\p{Lu}]", r"[^\P{Mc}]", r"\P{Han}", r"[^\p{Han}]", r"[\p{Han}a]",
    r"[^\s\p{L}\p{N}]", r"[^\r\n\p{L}\p{N}]", r"[\p{L}\p{M}]", r"[\p{P}\p{S}]", r"[^(\s|\p{L}|\p{N})]",
    r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[^\p{S}]", r"[\-\p{S}]", r"\d", r"\D", r"[\d]", r"[^\D]", r"[^\d\s]",
    r"(?i:\p{Lu})", r"(?i:\p{L})", r"(?i:\P{Lt})", r"(?i:[\p{N}\p{P}])", r"(?i:[^\p{S}\p{Z}])", r"(?i)\p{Ll}", r"(?i:a)|\p{Lu}",
]


def fnv(code_points):
    h = 0xCBF29CE484222325
    for cp in code_points:
        for byte in (cp & 255, cp >> 8 & 255, cp >> 16):
            h = (h ^ byte) * 0x100000001B3 % 2**64
    return h


def matched(expression):
    kept = set(normalizers.Replace(Regex(expression), "").normalize_str(TEXT))
    return [ord(c) for c in TEXT if c not in kept]


def main():
    rows = []
    for expression in EXPRESSIONS:
        found = matched(expression)
        rows.append(json.dumps({"regex": expression, "n": len(found), "hash": f"{fnv(found):016x}"}))
    path = pathlib.Path(__file__).with_name("classes.json")
    path.write_text(f'{{"tokenizers": "{tokenizers.__version__}", "classes": [\n' + ",\n".join(rows) + "\n]}\n")
    print(path, len(rows))


if __name__ == "__main__":
    main()
