#!/usr/bin/env python3
"""Makes the golden data in this folder with Hugging Face transformers. README.md says what each file holds.

Needs torch, transformers, tokenizers, safetensors and numpy.

usage: make.py                 write every case and the data for the demo model
       make.py NAME...         write these cases only ("tales" is the demo model)
       make.py --check [NAME]  write nothing: recompute from the folders and compare with what is stored
"""
import argparse
import contextlib
import json
import math
import pathlib
import platform
import random
import sys
from unittest import mock

import numpy as np
import safetensors
import safetensors.torch
import tokenizers
import torch
import transformers

import cases

HERE = pathlib.Path(__file__).resolve().parent
MODELS = HERE.parent.parent / "models"
N_GREEDY = 64
TOLERANCE = 2e-5  # what Headway's own logits must keep to, relative to the largest |logit|
# A seed is taken when greedy text shows more than a loop, and every step decides by more than rounding can undo.
MIN_DISTINCT, MIN_MARGIN, MAX_SEEDS = 28, 5 * TOLERANCE, 400
TALES_PROMPT = "Once upon a time there was a little fox named Kit."
TALES_SEED, TALES_COUNT = 20250, 7  # training used seed 1


def versions():
    return {
        "transformers": transformers.__version__, "torch": torch.__version__, "tokenizers": tokenizers.__version__,
        "safetensors": safetensors.__version__, "numpy": np.__version__, "python": platform.python_version(),
    }


# ---- writing a model folder

def initialise(model, seed):
    """Weights that make a lively model: products keep the size of what goes in, attention is neither flat nor one-hot, norm
    weights differ, biases are not zero, and embeddings are small beside what the layers add, so that a tied model does not
    repeat its last token for ever."""
    g = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        noise = torch.randn(p.shape, generator=g)
        if name.endswith("bias"):
            value = 0.1 * noise
        elif p.dim() == 1:
            value = 1.0 + 0.2 * noise
        elif any(s in name for s in ("embed_tokens", "wte", "wpe", "lm_head")):
            value = 0.1 * noise
        else:
            conv1d = "transformer.h." in name  # Conv1D keeps [in, out], Linear keeps [out, in]
            value = noise * 1.3 / math.sqrt(p.shape[0] if conv1d else p.shape[1])
        p.data.copy_(value)


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n")


def write_model(case, folder, seed):
    """config.json, generation_config.json and the weights, as a Hugging Face folder."""
    folder.mkdir(exist_ok=True)
    for old in folder.glob("model*.safetensors*"):
        old.unlink()
    stored = getattr(torch, case.stored)
    write_json(folder / "config.json", case.config)
    model = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.from_pretrained(folder))
    model = model.float()
    initialise(model, seed)
    model.to(stored)
    if case.writer == "transformers":
        size = {"max_shard_size": case.shard_bytes} if case.shard_bytes else {}
        model.save_pretrained(folder, **size)
    else:
        tensors = {k: v.contiguous() for k, v in model.state_dict().items()}
        if model.config.tie_word_embeddings:
            del tensors["lm_head.weight"]
        if not case.prefix:
            tensors = {k.removeprefix("transformer."): v for k, v in tensors.items()}
        if case.mask_buffers:
            n = case.config["n_ctx"]
            for i in range(case.config["n_layer"]):
                tensors[f"h.{i}.attn.bias"] = torch.tril(torch.ones(1, 1, n, n))
        safetensors.torch.save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    write_json(folder / "generation_config.json", {"do_sample": False})


# ---- the reference

def load(folder, **overrides):
    """The model as anybody would load it, in float32; refuses a folder whose names do not all fit."""
    config = transformers.AutoConfig.from_pretrained(folder)
    for key, value in overrides.items():
        setattr(config, key, value)
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder, config=config, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    wrong = {k: v for k, v in info.items() if v and k in ("missing_keys", "mismatched_keys", "unexpected_keys")}
    if wrong:
        sys.exit(f"{folder}: {wrong}")
    return model.eval()


@torch.no_grad()
def logits_of(model, tokens):
    return model(torch.tensor([tokens]), use_cache=False).logits[0]  # [n_tokens, vocab]


def logits_in_float64(folder, tokens):
    """The same model in float64. transformers names float32 itself in RMSNorm, softmax and rope; while the names torch.float32
    and torch.float mean float64 those are in float64 too, rope's frequencies included."""
    model = load(folder).double()
    with mock.patch.object(torch, "float32", torch.float64), mock.patch.object(torch, "float", torch.float64):
        rope = getattr(model.base_model, "rotary_emb", None)
        if rope is not None:
            model.base_model.rotary_emb = type(rope)(model.config)
        logits = logits_of(model, tokens)
    assert logits.dtype == torch.float64
    return logits


def relative_error(got, want):
    return float((got.double() - want.double()).abs().max() / want.double().abs().max())


def greedy(model, prompt):
    """N_GREEDY ids by plain argmax, everything computed anew for each, and each step's margin: best logit minus second best,
    over the largest |logit| of the step."""
    tokens, margins = list(prompt), []
    for _ in range(N_GREEDY):
        last = logits_of(model, tokens)[-1]
        best = torch.topk(last, 2)
        margins.append(float((best.values[0] - best.values[1]) / last.abs().max()))
        tokens.append(int(best.indices[0]))
    return tokens[len(prompt):], margins


def prompt_of(case, seed):
    """Random ids, the first and the last of the vocabulary among them."""
    n = case.config["vocab_size"]
    ids = random.Random(seed).choices(range(n), k=case.n_prompt)
    ids[3], ids[-2] = n - 1, 0
    return ids


def write_golden(path, golden):
    """One line per key, so that a change shows as one line."""
    lines = [f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in golden.items()]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def short(x):
    return float(f"{x:.6g}")


def make_case(case, index):
    folder = HERE / case.name
    for seed in range(1000 * (index + 1), 1000 * (index + 1) + MAX_SEEDS):
        write_model(case, folder, seed)
        tokens = prompt_of(case, seed)
        model = load(folder)
        ids, margins = greedy(model, tokens)
        if len(set(ids)) >= MIN_DISTINCT and min(margins) >= MIN_MARGIN:
            break
    else:
        sys.exit(f"{case.name}: no seed of {MAX_SEEDS} gives lively text; change the sizes or initialise()")
    logits = logits_of(model, tokens)
    golden = {
        "versions": versions(), "seed": seed, "stored": case.stored, "n_prompt": len(tokens),
        "vocab_size": logits.shape[1], "reference_error": short(relative_error(logits, logits_in_float64(folder, tokens))),
    }
    if case.unlike:
        golden["moved_by_variant"] = short(relative_error(logits_of(load(folder, **case.unlike), tokens), logits))
        if golden["moved_by_variant"] < 10 * TOLERANCE:
            sys.exit(f"{case.name}: would pass without what it is there to test: {golden['moved_by_variant']}")
    golden.update(tokens=tokens, greedy=ids, margins=[short(m) for m in margins])
    write_golden(folder / "golden.json", golden)
    np.save(folder / "logits.npy", np.ascontiguousarray(logits.numpy(), dtype="<f4"))
    size = sum(f.stat().st_size for f in folder.iterdir())
    print(f"{case.name:24} {case.stored:9} {tuple(logits.shape)!s:11} seed {seed:5} {size / 1024:6.0f} KiB  largest logit "
          f"{logits.abs().max():5.2f}  reference error {golden['reference_error']:.1e}  smallest margin {min(margins):.1e}  "
          f"{len(set(ids))} of {N_GREEDY} ids distinct"
          + (f"  variant moves {golden['moved_by_variant']:.1e}" if case.unlike else ""), flush=True)


def check_case(case):
    """What is stored against what is computed now; both are float32, so they may differ by rounding."""
    folder = HERE / case.name
    golden = json.loads((folder / "golden.json").read_text())
    model = load(folder)
    error = relative_error(logits_of(model, golden["tokens"]), torch.from_numpy(np.load(folder / "logits.npy")))
    same = greedy(model, golden["tokens"])[0] == golden["greedy"]
    print(f"{case.name:24} logit difference {error:.1e}, greedy ids {'equal' if same else 'DIFFER'}")
    return same and error <= TOLERANCE


# ---- the demo model

@contextlib.contextmanager
def tale_writer():
    """models/tales.py as a module, leaving no compiled file behind."""
    sys.path.insert(0, str(MODELS))
    keep, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    import tales
    yield tales
    sys.dont_write_bytecode = keep
    sys.path.pop(0)


def windows_nll(logits_fn, ids, size):
    """Total negative log-likelihood and number of predicted tokens over windows of `size` tokens that do not overlap. A window's
    first token is not predicted; the last window may be shorter, and one of a single token predicts nothing."""
    total, n = 0.0, 0
    for first in range(0, len(ids), size):
        window = ids[first:first + size]
        if len(window) < 2:
            continue
        logp = torch.log_softmax(logits_fn(window).double(), -1)[:-1]
        total -= float(logp.gather(1, torch.tensor(window[1:])[:, None]).sum())
        n += len(window) - 1
    return total, n


def tales_golden():
    folder = MODELS / "tales"
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    with tale_writer() as tales:
        rng = random.Random(TALES_SEED)
        text = "".join("<|endoftext|>" + tales.tale(rng) for _ in range(TALES_COUNT))
    model = load(folder)
    prompt = tokenizer.encode(TALES_PROMPT).ids
    ids, margins = greedy(model, prompt)
    logits = logits_of(model, prompt)
    top = torch.topk(logits[-1], 10)
    text_ids = tokenizer.encode(text).ids
    size = model.config.max_position_embeddings
    total, n = windows_nll(lambda w: logits_of(model, w), text_ids, size)
    total64, _ = windows_nll(lambda w: logits_in_float64(folder, w), text_ids, size)
    return text, {
        "versions": versions(), "prompt": TALES_PROMPT, "n_prompt": len(prompt), "vocab_size": logits.shape[1],
        "reference_error": short(relative_error(logits, logits_in_float64(folder, prompt))),
        "max_abs_logit": short(float(logits[-1].abs().max())),
        "tokens": prompt, "greedy": ids, "greedy_text": tokenizer.decode(ids),
        "margins": [short(m) for m in margins], "top10_ids": top.indices.tolist(),
        "top10_logits": [float(f"{v:.9g}") for v in top.values.tolist()],
        "perplexity": {
            "file": "tales.txt", "n_tokens": len(text_ids), "window": size, "n_windows": -(-len(text_ids) // size),
            "n_predicted": n, "total_nll": total, "mean_nll": total / n, "perplexity": math.exp(total / n),
            "reference_error": short(abs(total - total64) / total64),
        },
    }


def make_tales():
    text, golden = tales_golden()
    (HERE / "tales.txt").write_text(text)
    write_golden(HERE / "tales_golden.json", golden)
    p = golden["perplexity"]
    print(f"{'tales':24} reference error {golden['reference_error']:.1e}  smallest margin {min(golden['margins']):.1e}  "
          f"perplexity {p['perplexity']:.6f} over {p['n_predicted']} of {p['n_tokens']} tokens "
          f"(error {p['reference_error']:.1e})")


def check_tales():
    text, now = tales_golden()
    kept = json.loads((HERE / "tales_golden.json").read_text())
    same = text == (HERE / "tales.txt").read_text() and all(now[k] == kept[k] for k in ("tokens", "greedy", "top10_ids"))
    error = abs(now["perplexity"]["mean_nll"] - kept["perplexity"]["mean_nll"])
    print(f"{'tales':24} mean nll difference {error:.1e}, ids and text {'equal' if same else 'DIFFER'}")
    return same and error <= TOLERANCE


def main():
    parser = argparse.ArgumentParser(description="Makes the golden data of tests/vectors/ with Hugging Face transformers.")
    parser.add_argument("names", nargs="*", metavar="NAME", help='cases; "tales" is the demo model (default: all)')
    parser.add_argument("--check", action="store_true", help="write nothing, compare with transformers as installed")
    args = parser.parse_args()
    known = [c.name for c in cases.CASES] + ["tales"]
    for name in args.names:
        if name not in known:
            parser.error(f"no case {name}; there are {', '.join(known)}")
    torch.set_num_threads(1)  # one order of additions, so that a second run writes the same bytes
    transformers.utils.logging.disable_progress_bar()
    print(", ".join(f"{k} {v}" for k, v in versions().items()))
    good = True
    for index, case in enumerate(cases.CASES):
        if args.names and case.name not in args.names:
            continue
        if args.check:
            good &= check_case(case)
        else:
            make_case(case, index)
    if not args.names or "tales" in args.names:
        if args.check:
            good &= check_tales()
        else:
            make_tales()
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
