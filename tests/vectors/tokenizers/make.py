#!/usr/bin/env python3
"""Makes the tokenizer vectors: small tokenizers built the way well-known models ship theirs, and what Hugging Face's
`tokenizers` does with them.

usage: python3 make.py          (writes beside itself; see README.md for versions)
"""
import collections
import json
import os
import random

import tokenizers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

HERE = os.path.dirname(os.path.abspath(__file__))
WORD = "\u2581"
LLAMA3_REGEX = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
                r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2_REGEX = LLAMA3_REGEX.replace(r"\p{N}{1,3}", r"\p{N}")

SENTENCES = """The quick brown fox jumps over the lazy dog, and they're not sorry; it's what foxes do.
In 1984 there were 12345 reasons to doubt it, but only 3.14159 of them were any good (or so I've heard).
def main(argc, argv):\n    if argc != 2:\n        return -1\n\treturn int(argv[1]) + 0x1F
Voilà: déjà vu, naïve café, Ångström, señor, Straße, œuvre, žluťoučký kůň, Zażółć gęślą jaźń.
Съешь же ещё этих мягких французских булок, да выпей чаю. Γειά σου Κόσμε, τι κάνεις;
今天天气很好，我们去公园散步吧。東京の空は青いです。안녕하세요 세계, 삥뽕빵.
مرحبا بالعالم، كيف الحال؟ שלום עולם! नमस्ते दुनिया, ยินดีต้อนรับ
👍🏽 👩‍👩‍👧‍👦 🇩🇪 ❤️ 😀😀😀 Cửa Việt https://example.com/a?b=c&d=e#f user@example.org
She'll say we'd better; I'm sure you'd've known. DON'T SHOUT, IT'S RUDE!!! ... --- ### $100 €20 ½ ² Ⅷ ٣
One morning the little hare went to the market by the river and found a bright golden lantern there.
""".split("\n")

EDGES = [
    "", " ", "  ", "   ", "a", " a", "a ", "  a  b   c    d", "\n", "\n\n", "\r\n", " \n ", "\n \n  x\n\n\ny", "\t", "\t\tx\t y",
    "a\u00a0b", "\u00a0\u00a0 x", "a\u180eb \u180e c", "\u1680x\u2028y\u2029z\u202f\u205f\u3000w\u0085v", "\u200b\u200c\u200d\ufeff",
    "e\u0301", "\u00e9", "n\u0303o\u0308", "a\u0323\u0307b\u0307\u0323", "\u1e9b\u0323", "\u212b\u2126\ufb01\u2460", "\u0344\u0958\u2adc",
    "\u1112\u1161\u11ab\uae00", "\ud55c\uae00", "삥뽕빵", "\u0301\u0302", "q\u0307\u0323\u0328" * 5,
    "👩‍👩‍👧‍👦", "👍🏽", "🇩🇪🇫🇷", "❤️", "\U0001f600\U0010ffff\ufffd\uffff", "日本語テキスト", "Cửa Việt", " Harbour Harbours zzzz zzzzz ÿÿ",
    "\x00", "a\x00b", "1\x002\ufffd3", "\x01\x7f\x80\x9f",
    "it's", "IT'S", "it'\u017f", "'\u017f'S's'T'ReRE'vE'M'lL'D'd", "don't we'll I'd they've y'all 'twas '''", "\u2019s it\u2019s",
    "1", "12", "123", "1234567890", "1 23 456 7890", "٣٤٥ ½²Ⅷ", "3.14e-10", "0x1F+7",
    "<0x41>", "<0x0A> <0xZZ>", "<unk>", "<s>", "</s>a", "<s> a </s> b", "<|endoftext|>", "a<|endoftext|>b", " <|endoftext|> x",
    "<|endoftext|><|endoftext|>", "<|endoftext", "|endoftext|>", "<|begin_of_text|>Hi<|eot_id|>\n", "<|im_start|>user\nhi<|im_end|>\n",
    "<tool_call>{}</tool_call>", "<mask>", "a <mask> b", "  <mask>  b", "x<mask>", "<mask> <mask>", "  <left>  <right>  x", "<left><right>",
    "word WORD words sword word. _word word1 wordé (word) word", "ab AB Ab aB", "caf\u00e9 cafe\u0301", "<n> <n>x", "a<n>",
    "\u2581", "\u2581a", " \u2581 a", "\u2581\u2581\u2581", "a\u2581b", "a" * 200, "ab" * 150, " " * 100, "\u2581" * 50, "\n" * 60,
    "supercalifragilisticexpialidocious" * 8, "!?" * 40, "\u0301" * 40, "日" * 70, "😀" * 30, "aA1 " * 40,
    "The quick brown fox's 2nd \"jump\" — over 12345 lazy dogs\u2026 (isn't it?)\r\n\r\n\tEnd.",
]


def corpus():
    rng = random.Random(1)
    words = sorted({w for s in SENTENCES for w in s.split()})
    lines = SENTENCES * 30
    for _ in range(1500):
        lines.append(" ".join(rng.choice(words) for _ in range(rng.randint(3, 15))))
    return [line + "\n" for line in lines]


ALPHABETS = [
    "abcdefghij ABC'.,!?0123456789\n\t ", "   \n\r\t\u00a0\u3000\u2028\u180e\u200b\u0085ab", "éèüñçåøßſœÀÉ e\u0301\u0308\u0327\u0323ao",
    "日本語中文한글가각힣ㄱ\u1100\u1161\u11a8あアッ", "😀👍\U0001f3fd\u200d\ufe0f🇩🇪❤\U0010fffd", "ابتшщъэяΩωא१๓\u094d\u0e33", "<>|_s/unkx0A2[]{}=+",
    "\x00\x01\x1f\x7f\x80\xad\xff\u0100\u0143\u0144\u2581",
]
FRAGMENTS = ["'s", "'LL", "'\u017f", "<s>", "</s>", "<|endoftext|>", "<|eot_id|>", "<|im_end|>", "<mask>", "<left>", "<right>", "word", "  ", "\n\n",
             "\u2581", "the", " The", "12345", "<0x0A>", "<n>", "ab", "café"]


def random_texts(n):
    rng = random.Random(2)
    for _ in range(n):
        parts = []
        for _ in range(rng.randint(1, 5)):
            kind = rng.random()
            if kind < 0.25:
                parts.append(rng.choice(FRAGMENTS))
            elif kind < 0.85:
                alphabet = rng.choice(ALPHABETS)
                parts.append("".join(rng.choice(alphabet) for _ in range(rng.randint(1, 8))))
            elif kind < 0.92:
                parts.append(rng.choice(SENTENCES)[:rng.randint(1, 30)])
            else:
                cp = rng.choice([rng.randrange(0x300), rng.randrange(0x3000), rng.randrange(0x10000), rng.randrange(0x20000)])
                parts.append(chr(cp) if not 0xD800 <= cp < 0xE000 else "\ufffd")
        yield "".join(parts)


def added(content, index, special=True, **flags):
    token = {"id": index, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": not special,
             "special": special}
    token.update(flags)
    return token


def template(first=None, last=None, ids=None):
    def special(name):
        return {"SpecialToken": {"id": name, "type_id": 0}}
    single = ([special(first)] if first else []) + [{"Sequence": {"id": "A", "type_id": 0}}] + ([special(last)] if last else [])
    return {"type": "TemplateProcessing", "single": single, "pair": single + [{"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {name: {"id": name, "ids": [ids[name]], "tokens": [name]} for name in (first, last) if name}}


def byte_level(prefix=False, regex=True):
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": regex}


def split(regex, behavior="Isolated", invert=False):
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": behavior, "invert": invert}


def whole(model, **parts):
    names = ("truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder")
    file = {"version": "1.0"}
    for name in names:
        file[name] = parts.get(name, [] if name == "added_tokens" else None)
    file["model"] = model
    return file


def bpe(vocab, merges, **settings):
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
             "fuse_unk": False, "byte_fallback": False, "ignore_merges": False}
    model.update(settings)
    model["vocab"] = vocab
    model["merges"] = merges
    return model


def train_bytes(size, pre):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    t.train_from_iterator(corpus(), trainer)
    model = json.loads(t.to_str())["model"]
    return model["vocab"], [list(m) for m in model["merges"]]


def train_words(size):
    """A SentencePiece-like vocabulary: <unk> <s> </s>, the bytes, then what was learned."""
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    counts = collections.Counter("".join(corpus()).replace(" ", WORD))
    alphabet = sorted(sorted(counts), key=lambda c: -counts[c])[:120]
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, limit_alphabet=len(alphabet), show_progress=False)
    t.train_from_iterator(corpus(), trainer)
    model = json.loads(t.to_str())["model"]
    merges = [list(m) for m in model["merges"]]
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    tokens += [WORD * 2, WORD * 4, WORD * 8] + [m[0] + m[1] for m in merges] + [c for c in model["vocab"] if len(c) == 1]
    vocab = {}
    for token in tokens:
        vocab.setdefault(token, len(vocab))
    runs = [[WORD, WORD], [WORD * 2, WORD * 2], [WORD * 4, WORD * 4]]
    return vocab, runs + [m for m in merges if m not in runs]


def gpt2():
    vocab, merges = train_bytes(1600, pre_tokenizers.ByteLevel(add_prefix_space=False))
    vocab["<|endoftext|>"] = len(vocab)
    model = bpe(vocab, [" ".join(m) for m in merges], continuing_subword_prefix="", end_of_word_suffix="", unk_token="<|endoftext|>")
    for absent in ("type", "byte_fallback", "ignore_merges"):
        del model[absent]
    end = added("<|endoftext|>", vocab["<|endoftext|>"], normalized=True)
    return whole(model, added_tokens=[end], pre_tokenizer=byte_level(), post_processor=byte_level(prefix=True), decoder=byte_level(prefix=True))


def llama3():
    regex = pre_tokenizers.Sequence([pre_tokenizers.Split(tokenizers.Regex(LLAMA3_REGEX), "isolated"),
                                     pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    vocab, merges = train_bytes(1800, regex)
    # Tokens that no sequence of merges reaches, for ignore_merges to find.
    for token in ("\u0120Harbour", "zzzz", "\u00c3\u00bf\u00c3\u00bf"):
        vocab.setdefault(token, len(vocab))
    names = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"] + [f"<|reserved_special_token_{i}|>" for i in range(12)]
    specials = [added(name, len(vocab) + i) for i, name in enumerate(names)]
    post = {"type": "Sequence", "processors": [byte_level(prefix=True), template("<|begin_of_text|>", ids={names[0]: len(vocab)})]}
    return whole(bpe(vocab, merges, ignore_merges=True), added_tokens=specials,
                 pre_tokenizer={"type": "Sequence", "pretokenizers": [split(LLAMA3_REGEX), byte_level(regex=False)]},
                 post_processor=post, decoder=byte_level(prefix=True))


def qwen2():
    regex = pre_tokenizers.Sequence([pre_tokenizers.Split(tokenizers.Regex(QWEN2_REGEX), "isolated"),
                                     pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    vocab, merges = train_bytes(1600, regex)
    n = len(vocab)
    tokens = [added("<|endoftext|>", n), added("<|im_start|>", n + 1), added("<|im_end|>", n + 2),
              added("<tool_call>", n + 3, special=False, normalized=False), added("</tool_call>", n + 4, special=False, normalized=False)]
    return whole(bpe(vocab, [" ".join(m) for m in merges], continuing_subword_prefix="", end_of_word_suffix=""), added_tokens=tokens,
                 normalizer={"type": "NFC"}, post_processor=byte_level(),
                 pre_tokenizer={"type": "Sequence", "pretokenizers": [split(QWEN2_REGEX), byte_level(regex=False)]}, decoder=byte_level())


def word_specials(vocab):
    return [added(t, vocab[t], normalized=False) for t in ("<unk>", "<s>", "</s>")]


def fallback_decoder(strip=True):
    steps = [{"type": "Replace", "pattern": {"String": WORD}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}]
    return {"type": "Sequence", "decoders": steps + ([{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if strip else [])}


def llama2():
    vocab, merges = train_words(1800)
    normalizer = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": WORD},
                                                      {"type": "Replace", "pattern": {"String": " "}, "content": WORD}]}
    return whole(bpe(vocab, [" ".join(m) for m in merges], unk_token="<unk>", fuse_unk=True, byte_fallback=True),
                 added_tokens=word_specials(vocab), normalizer=normalizer, post_processor=template("<s>", ids=vocab),
                 decoder=fallback_decoder())


def metaspace(split_words, scheme, **settings):
    return {"type": "Metaspace", "replacement": WORD, "prepend_scheme": scheme, "split": split_words, **settings}


def mistral():
    vocab, merges = train_words(1500)
    return whole(bpe(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True), added_tokens=word_specials(vocab),
                 pre_tokenizer=metaspace(False, "first"), post_processor=template("<s>", "</s>", vocab), decoder=fallback_decoder())


def small_tokenizers():
    """Everything else, on a vocabulary of a few dozen tokens."""
    letters = [chr(c) for c in range(0x21, 0x7F)] + list("éñß日本語😀\u0301\u00a0\n\t ") + [WORD]
    merges = [["a", "b"], ["b", "c"], ["a", "bc"], ["ab", "c"], ["a", "b"], ["o", "r"], ["w", "or"], ["wor", "d"], ["1", "2"], ["12", "3"],
              [WORD, "a"], [WORD, "wor"], [WORD, WORD]]
    tokens = ["<unk>"] + letters + [a + b for a, b in merges]
    vocab = {}
    for token in tokens:
        vocab.setdefault(token, len(vocab))
    n = len(vocab)
    unk = dict(unk_token="<unk>")
    yield "no parts at all", whole(bpe(vocab, merges))
    yield "unknown characters one by one", whole(bpe(vocab, merges, **unk))
    yield "unknown characters fused", whole(bpe(vocab, merges, fuse_unk=True, **unk))
    few = dict(vocab)
    for b in (0xC3, 0xA9, 0xE6, 0x97, 0xA5, 0x41):
        few[f"<0x{b:02X}>"] = len(few)
    del few["é"], few["日"]
    few = {t: i for i, t in enumerate(few)}
    yield "some bytes to fall back to", whole(bpe(few, merges, byte_fallback=True, **unk), decoder=fallback_decoder())
    yield "some bytes, unknowns fused", whole(bpe(few, merges, byte_fallback=True, fuse_unk=True, **unk), decoder={"type": "ByteFallback"})
    for behavior in ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
        for invert in (False, True):
            for regex in (r"[ab]|\s", r"\d*", r"\S+ ?"):
                yield f"split {behavior} {invert} {regex}", whole(bpe(vocab, merges, **unk), pre_tokenizer=split(regex, behavior, invert))
    yield "split at a string", whole(bpe(vocab, merges, **unk),
                                     pre_tokenizer={"type": "Split", "pattern": {"String": "b"}, "behavior": "MergedWithNext", "invert": False})
    for individual in (False, True):
        yield f"digits {individual}", whole(bpe(vocab, merges, **unk), pre_tokenizer={"type": "Digits", "individual_digits": individual})
    for scheme in ("always", "first", "never"):
        for cut in (False, True):
            yield f"metaspace {scheme} {cut}", whole(
                bpe(vocab, merges, **unk), pre_tokenizer=metaspace(cut, scheme), decoder=metaspace(cut, scheme),
                added_tokens=[added("<s>", n), added("<mask>", n + 1, lstrip=True)])
    yield "metaspace as older files write it", whole(
        bpe(vocab, merges, **unk), pre_tokenizer={"type": "Metaspace", "replacement": WORD, "add_prefix_space": True},
        decoder={"type": "Metaspace", "replacement": WORD, "add_prefix_space": True})
    yield "metaspace behind a split", whole(
        bpe(vocab, merges, **unk), pre_tokenizer={"type": "Sequence", "pretokenizers": [split(r"[12]"), metaspace(True, "first")]})
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        yield form, whole(bpe(vocab, merges, **unk), normalizer={"type": form})
    replace = {"type": "Replace", "pattern": {"Regex": r"\s+|b*"}, "content": WORD}
    yield "replace by expression", whole(bpe(vocab, merges, **unk), normalizer=replace, decoder={
        "type": "Replace", "pattern": {"Regex": "a+"}, "content": "<a>"})
    kinds = [added("<mask>", n, lstrip=True), added("<left>", n + 1, lstrip=True), added("<right>", n + 2, rstrip=True),
             added("word", vocab["word"], special=False, single_word=True, normalized=False), added("<n>", n + 3, special=False),
             added("  ", n + 4, special=False, normalized=False), added("<s>", n + 5), added("</s>", n + 6, lstrip=True, rstrip=True),
             added("<|e", n + 7, normalized=False, special=False), added("<|endoftext|>", n + 8), added("café", n + 9, special=False),
             added("ab", vocab["ab"], special=True, normalized=True)]
    yield "added tokens of all kinds", whole(bpe(vocab, merges, **unk), added_tokens=kinds)
    yield "added tokens, normalised", whole(
        bpe(vocab, merges, **unk), added_tokens=kinds, normalizer={"type": "Sequence", "normalizers": [{"type": "NFD"}, {
            "type": "Prepend", "prepend": WORD}, {"type": "Replace", "pattern": {"String": " "}, "content": WORD}]},
        decoder={"type": "Fuse"})
    strip = {"type": "Sequence", "decoders": [{"type": "Strip", "content": "a", "start": 2, "stop": 0}, {"type": "Fuse"}]}
    yield "strip each token", whole(bpe(vocab, merges, **unk), decoder=strip)
    strip = {"type": "Sequence", "decoders": [{"type": "Fuse"}, {"type": "Replace", "pattern": {"String": WORD}, "content": " "},
                                              {"type": "Strip", "content": "b", "start": 1, "stop": 0}]}
    yield "strip the text", whole(bpe(vocab, merges, **unk), decoder=strip)
    alphabet, alphabet_merges = train_bytes(260, pre_tokenizers.ByteLevel())
    yield "a blank in front", whole(bpe(alphabet, alphabet_merges), pre_tokenizer=byte_level(prefix=True), decoder=byte_level(),
                                    added_tokens=[added("<s>", len(alphabet)), added("日本 é", len(alphabet) + 1)])
    holes = {t: i for i, t in enumerate(t for t in alphabet if t not in ("a", "\u0120", "\u00c3"))}
    yield "an alphabet with holes", whole(bpe({"<unk>": len(holes), **holes}, [], unk_token="<unk>", fuse_unk=True), pre_tokenizer=byte_level())


def case(t, text):
    ids, with_special = t.encode(text, add_special_tokens=False).ids, t.encode(text).ids
    return {"text": text, "ids": ids, "ids_with_special": with_special, "decoded": t.decode(with_special, skip_special_tokens=False),
            "decoded_skip_special": t.decode(with_special, skip_special_tokens=True)}


def cases(file, n_texts, n_lists, only=None):
    t = Tokenizer.from_str(json.dumps(file))
    rng = random.Random(3)
    texts = (EDGES if only is None else only) + list(random_texts(n_texts))
    known = sorted(set(t.get_vocab(with_added_tokens=True).values()))
    bytes_first = [i for i in known if t.id_to_token(i).startswith("<0x")]
    lists = []
    for _ in range(n_lists):
        pool = bytes_first if bytes_first and rng.random() < 0.5 else known
        ids = [rng.choice(pool if rng.random() < 0.8 else known) for _ in range(rng.randint(1, 12))]
        lists.append({"ids": ids, "decoded": t.decode(ids, skip_special_tokens=False),
                      "decoded_skip_special": t.decode(ids, skip_special_tokens=True)})
    return {"encode": [case(t, text) for text in texts], "decode": lists}


def write(path, value):
    path = os.path.join(HERE, path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as f:
        json.dump(value, f, ensure_ascii=False, separators=(",", ":"))
        f.write("\n")


def main():
    print("tokenizers", tokenizers.__version__)
    for build in (gpt2, llama3, qwen2, llama2, mistral):
        name, file = build.__name__, build()
        write(f"{name}/tokenizer.json", file)
        write(f"{name}/cases.json", cases(file, 250, 150))
        print(name, len(file["model"]["vocab"]))
    tales = os.path.join(HERE, "../../../models/tales/tokenizer.json")
    with open(tales, encoding="utf-8") as f:
        write("tales/cases.json", cases(json.load(f), 250, 100))
    small = []
    for name, file in small_tokenizers():
        try:
            small.append({"name": name, "tokenizer": file, **cases(file, 15, 15, [e for e in EDGES[::2] if len(e) < 60])})
        except BaseException as why:  # pyo3 turns a panic into a BaseException
            raise SystemExit(f"{name}: {why}")
    write("small.json", small)
    print("small", len(small))


if __name__ == "__main__":
    main()
