#!/usr/bin/env python3
"""Records how far transformers itself is from its float32 logits when it computes in bfloat16 and in float16.

Writes halves.json: for every case the rms of the difference over the rms of the float32 logits (logits.npy), and
over all cases the root of the mean of the squares. Headway in the same type has to stay within 1.1 of that.

usage: halves.py            (needs what make.py needs)
"""
import json
import pathlib

import numpy as np
import torch
import transformers

import cases
import make


def error(folder, dtype):
    want = np.load(folder / "logits.npy").astype(np.float64)
    tokens = json.loads((folder / "golden.json").read_text())["tokens"]
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager")
    with torch.no_grad():
        got = model(torch.tensor([tokens])).logits[0].double().numpy()
    return float(np.sqrt(np.mean((got - want) ** 2) / np.mean(want ** 2)))


def main():
    torch.set_num_threads(1)
    out = {"versions": make.versions()}
    for name, dtype in (("bfloat16", torch.bfloat16), ("float16", torch.float16)):
        errors = {case.name: error(make.HERE / case.name, dtype) for case in cases.CASES}
        out[name] = {"all": float(np.sqrt(np.mean(np.square(list(errors.values()))))), "cases": errors}
    pathlib.Path(make.HERE / "halves.json").write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
