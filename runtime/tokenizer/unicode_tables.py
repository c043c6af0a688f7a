#!/usr/bin/env python3
"""Makes unicode_tables.def: general category and script of every character, as the regular expressions of Hugging Face's
tokenizers see them. They are asked, character by character; nothing is taken from another source.

usage: unicode_tables.py    (needs tokenizers)
"""
import pathlib
import sys

import tokenizers
from tokenizers import Regex, normalizers

CATEGORIES = "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Cs Co Cn".split()
SCRIPTS = """
Adlam Ahom Anatolian_Hieroglyphs Arabic Armenian Avestan Balinese Bamum Bassa_Vah Batak Bengali Bhaiksuki Bopomofo Brahmi
Braille Buginese Buhid Canadian_Aboriginal Carian Caucasian_Albanian Chakma Cham Cherokee Chorasmian Common Coptic Cuneiform
Cypriot Cypro_Minoan Cyrillic Deseret Devanagari Dives_Akuru Dogra Duployan Egyptian_Hieroglyphs Elbasan Elymaic Ethiopic
Garay Georgian Glagolitic Gothic Grantha Greek Gujarati Gunjala_Gondi Gurmukhi Gurung_Khema Han Hangul Hanifi_Rohingya
Hanunoo Hatran Hebrew Hiragana Imperial_Aramaic Inherited Inscriptional_Pahlavi Inscriptional_Parthian Javanese Kaithi
Kannada Katakana Kawi Kayah_Li Kharoshthi Khitan_Small_Script Khmer Khojki Khudawadi Kirat_Rai Lao Latin Lepcha Limbu
Linear_A Linear_B Lisu Lycian Lydian Mahajani Makasar Malayalam Mandaic Manichaean Marchen Masaram_Gondi Medefaidrin
Meetei_Mayek Mende_Kikakui Meroitic_Cursive Meroitic_Hieroglyphs Miao Modi Mongolian Mro Multani Myanmar Nabataean Nag_Mundari
Nandinagari New_Tai_Lue Newa Nko Nushu Nyiakeng_Puachue_Hmong Ogham Ol_Chiki Ol_Onal Old_Hungarian Old_Italic Old_North_Arabian
Old_Permic Old_Persian Old_Sogdian Old_South_Arabian Old_Turkic Old_Uyghur Oriya Osage Osmanya Pahawh_Hmong Palmyrene
Pau_Cin_Hau Phags_Pa Phoenician Psalter_Pahlavi Rejang Runic Samaritan Saurashtra Sharada Shavian Siddham SignWriting Sinhala
Sogdian Sora_Sompeng Soyombo Sundanese Sunuwar Syloti_Nagri Syriac Tagalog Tagbanwa Tai_Le Tai_Tham Tai_Viet Takri Tamil Tangsa
Tangut Telugu Thaana Thai Tibetan Tifinagh Tirhuta Todhri Toto Tulu_Tigalari Ugaritic Unknown Vai Vithkuqi Wancho Warang_Citi
Yezidi Yi Zanabazar_Square""".split()
WIDTH = 110


def is_surrogate(cp):
    return 0xD800 <= cp < 0xE000


TEXT = "".join(chr(cp) for cp in range(0x110000) if not is_surrogate(cp))


def partition(names):
    """The name that holds for each code point. Every character has exactly one; surrogates, which no text has, are given what
    the code point before them has."""
    of = [None] * 0x110000
    for name in names:
        for c in normalizers.Replace(Regex(rf"[^\p{{{name}}}]"), "").normalize_str(TEXT):
            if of[ord(c)] is not None:
                sys.exit(f"U+{ord(c):04X} is in {of[ord(c)]} and in {name}")
            of[ord(c)] = name
    for cp in range(0x110000):
        if is_surrogate(cp):
            of[cp] = of[cp - 1]
        if of[cp] is None:
            sys.exit(f"U+{cp:04X} is in none")
    return of


def write(out, macro, items):
    line = ""
    for item in items:
        item = f"{macro}({item})"
        if line and len(line) + 1 + len(item) > WIDTH:
            out.write(line + "\n")
            line = ""
        line += (" " if line else "") + item
    out.write(line + "\n")


def runs(of):
    return [f"0x{cp:X}, {of[cp]}" for cp in range(0x110000) if cp == 0 or of[cp] != of[cp - 1]]


def main():
    categories, scripts = partition(CATEGORIES), partition(SCRIPTS)
    path = pathlib.Path(__file__).with_suffix(".def")
    with path.open("w") as out:
        out.write("/* General categories and scripts of Unicode 16.0. Made by unicode_tables.py from tokenizers "
                  f"{tokenizers.__version__}; do not edit.\n"
                  " * Whoever includes this file defines the four macros first.\n *\n"
                  " *   CATEGORY, SCRIPT  the names\n"
                  " *   C, S              the first code point of a run, and which it is of */\n")
        write(out, "CATEGORY", CATEGORIES)
        out.write("\n")
        write(out, "SCRIPT", SCRIPTS)
        out.write("\n")
        write(out, "C", runs(categories))
        out.write("\n")
        write(out, "S", runs(scripts))
        out.write("\n#undef CATEGORY\n#undef SCRIPT\n#undef C\n#undef S\n")
    print(path, path.stat().st_size)


if __name__ == "__main__":
    main()
