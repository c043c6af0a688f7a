#!/usr/bin/env python3
"""Makes normal_form_unknown.def: characters whose normal forms Unicode 18 defines and Hugging Face's tokenizers, with older
tables, leave as they are. Found by asking both about every character; and tests/vectors/tokenizers/normal_forms.json, what
tokenizers makes of texts with them.

usage: normal_form_unknown.py    (needs tokenizers and unicodedata2 18.0)
"""
import json
import pathlib
import sys

import tokenizers
import unicodedata2
from tokenizers import normalizers

FORMS = {form: getattr(normalizers, form)() for form in ("NFC", "NFD", "NFKC", "NFKD")}
CHARACTERS = [chr(cp) for cp in range(0x110000) if not 0xD800 <= cp < 0xE000]
MARKS = "\u0301\u0334\u0323"  # of classes 230, 1 and 220


def same(form, text):
    return FORMS[form].normalize_str(text) == unicodedata2.normalize(form, text)


def pair(c):
    """The two characters that c is composed of."""
    parts = unicodedata2.decomposition(c).split()
    return "".join(chr(int(p, 16)) for p in parts) if len(parts) == 2 and not parts[0].startswith("<") else ""


def unknown():
    found = set()
    for c in CHARACTERS:
        if not all(same(form, c) for form in FORMS):
            found.add(c)
        if unicodedata2.combining(c) and not all(same("NFD", t) for m in MARKS for t in ("a" + c + m, "a" + m + c)):
            found.add(c)
        if pair(c) and not same("NFC", pair(c)):
            found.add(pair(c)[0])  # nothing may be composed with it
    for c in found:
        if any(f.normalize_str(c) != c for f in FORMS.values()) or FORMS["NFD"].normalize_str("a\u0301" + c + "\u0334") != "a\u0301" + c + "\u0334":
            sys.exit(f"U+{ord(c):04X} is known in part")
    return sorted(found)


def runs(characters):
    out = []
    for cp in map(ord, characters):
        if out and out[-1][1] == cp - 1:
            out[-1][1] = cp
        else:
            out.append([cp, cp])
    return out


def fnv(data):
    h = 0xCBF29CE484222325
    for byte in data:
        h = (h ^ byte) * 0x100000001B3 % 2**64
    return f"{h:016x}"


def main():
    found = unknown()
    versions = f"tokenizers {tokenizers.__version__} and Unicode {unicodedata2.unidata_version}"
    path = pathlib.Path(__file__).with_suffix(".def")
    rows = [f"{{0x{a:X}, 0x{b:X}}}," for a, b in runs(found)]
    lines = [" ".join(rows[i:i + 6]) for i in range(0, len(rows), 6)]
    path.write_text(f"/* First and last code points. Made by normal_form_unknown.py from {versions}; do not edit. */\n"
                    + "\n".join(lines) + "\n")
    text = "".join(f"a{c}\u0323\u0301 e\u0301{c}\u0334\n" for c in found)
    text += "".join(f"{pair(c)}\u0301\u0323\n" for c in CHARACTERS if pair(c) and pair(c)[0] in found)
    golden = {"tokenizers": tokenizers.__version__, "text": text}
    golden.update({form: fnv(f.normalize_str(text).encode()) for form, f in FORMS.items()})
    vectors = pathlib.Path(__file__).parents[2] / "tests/vectors/tokenizers/normal_forms.json"
    vectors.write_text(json.dumps(golden, ensure_ascii=False, indent=1) + "\n")
    print(len(found), len(rows), vectors.stat().st_size, {f: same(f, text) for f in FORMS})


if __name__ == "__main__":
    main()
