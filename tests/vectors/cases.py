"""The table of golden cases: what each model looks like and how its folder is written. make.py turns it into folders.

Every size is small and most are uneven on purpose: an odd vocabulary, an MLP width that no vector register divides, fewer KV
heads than query heads, prompts that pass 64 and 128 positions. All cases have 8 or 12 heads, so that each can be split over
8 ranks.
"""
import dataclasses


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    config: dict  # config.json as it is written, but for the keys that all cases of the architecture share
    stored: str = "bfloat16"  # what the safetensors file holds
    n_prompt: int = 41
    # Changes to the loaded config that must move the logits: proof that the case can tell what it is there to tell.
    unlike: dict = dataclasses.field(default_factory=dict)
    writer: str = "plain"  # plain: the configuration as written here; transformers: save_pretrained
    shard_bytes: int = 0  # writer transformers only: largest file
    prefix: bool = True  # gpt2 only: tensor names begin with "transformer."
    mask_buffers: bool = False  # gpt2 only: with the h.N.attn.bias masks of the first GPT-2 files


def llama(name, old=False, **kw):
    """A Llama case, or one of a relative; keywords that are not fields of Case are keys of config.json."""
    fields = {f.name for f in dataclasses.fields(Case)}
    case = {k: v for k, v in kw.items() if k in fields}
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 256, "hidden_size": 64,
        "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 4,
        "max_position_embeddings": 128, "hidden_act": "silu", "rms_norm_eps": 1e-5, "attention_bias": False,
        "mlp_bias": False, "tie_word_embeddings": True, "bos_token_id": None, "eos_token_id": None,
    }
    config.update({k: v for k, v in kw.items() if k not in fields})
    stored = case.get("stored", "bfloat16")
    if old:  # as transformers 4 wrote it
        config["torch_dtype"] = stored
        config.setdefault("rope_theta", 10000.0)
        config.setdefault("rope_scaling", None)
    else:  # as transformers 5 writes it
        config["dtype"] = stored
        config.setdefault("rope_parameters", {"rope_theta": 10000.0, "rope_type": "default"})
    return Case(name=name, config=config, **case)


def mistral(name, **kw):
    """A Mistral case: Llama's keys, and a window."""
    return llama(name, model_type="mistral", architectures=["MistralForCausalLM"], **kw)


def qwen3(name, **kw):
    """A Qwen3 case: Llama's keys, heads of a size of their own, and windows in the later layers where they are switched on."""
    keys = {"head_dim": 16, "use_sliding_window": False, "sliding_window": None, "max_window_layers": 2, **kw}
    return llama(name, model_type="qwen3", architectures=["Qwen3ForCausalLM"], **keys)


def exaone4(name, **kw):
    """An EXAONE 4.0 case without windows, as the small model has none."""
    return llama(name, model_type="exaone4", architectures=["Exaone4ForCausalLM"], sliding_window=None,
                 sliding_window_pattern=None, layer_types=["full_attention"] * 2, **kw)


def gpt2(name, **kw):
    """A GPT-2 case; keywords that are not fields of Case are keys of config.json."""
    fields = {f.name for f in dataclasses.fields(Case)}
    case = {k: v for k, v in kw.items() if k in fields}
    config = {
        "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "vocab_size": 256, "n_embd": 64, "n_head": 8,
        "n_layer": 2, "n_positions": 128, "n_ctx": 128, "n_inner": None, "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5, "bos_token_id": None, "eos_token_id": None,
    }
    config.update({k: v for k, v in kw.items() if k not in fields})
    return Case(name=name, config=config, **case)


# Eight frequencies per head, and positions well beyond the original context.
ROPE = dict(hidden_size=48, intermediate_size=88, head_dim=16, max_position_embeddings=256)
DEFAULT_ROPE = {"rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}}

CASES = [
    llama("llama-mha", stored="float32", num_key_value_heads=8, hidden_size=48, intermediate_size=124, vocab_size=288,
          tie_word_embeddings=False),
    llama("llama-gqa", num_hidden_layers=3, n_prompt=70, max_position_embeddings=160),
    llama("llama-gqa-uneven", num_attention_heads=12, hidden_size=96, intermediate_size=140, vocab_size=331),
    llama("llama-mqa", stored="float16", num_key_value_heads=1, vocab_size=300, tie_word_embeddings=False),
    llama("llama-bias", attention_bias=True, mlp_bias=True, vocab_size=257, rms_norm_eps=1e-6),
    llama("llama-head-dim", hidden_size=72, head_dim=16, vocab_size=258,
          rope_parameters={"rope_theta": 500000.0, "rope_type": "default"}, unlike=DEFAULT_ROPE),
    llama("llama-rope-linear", **ROPE, n_prompt=70, unlike=DEFAULT_ROPE,
          rope_parameters={"rope_theta": 10000.0, "rope_type": "linear", "factor": 4.0}),
    llama("llama-rope-llama3", old=True, **ROPE, n_prompt=90, unlike=DEFAULT_ROPE,
          rope_scaling={"factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                        "original_max_position_embeddings": 64, "rope_type": "llama3"}),
    llama("llama-rope-yarn", **ROPE, n_prompt=150, unlike=DEFAULT_ROPE,
          rope_parameters={"rope_theta": 10000.0, "rope_type": "yarn", "factor": 4.0,
                           "original_max_position_embeddings": 64}),
    llama("llama-rope-yarn-mscale", old=True, **ROPE, n_prompt=70,
          rope_scaling={"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "beta_fast": 8.0,
                        "beta_slow": 0.5, "mscale": 1.0, "mscale_all_dim": 0.4, "truncate": False},
          unlike={"rope_parameters": {"rope_theta": 10000.0, "rope_type": "yarn", "factor": 4.0,
                                      "original_max_position_embeddings": 64, "beta_fast": 8.0, "beta_slow": 0.5}}),
    llama("llama-rope-yarn-factor", **ROPE, n_prompt=70,
          rope_parameters={"rope_theta": 10000.0, "rope_type": "yarn", "factor": 4.0, "attention_factor": 0.85,
                           "original_max_position_embeddings": 64},
          unlike={"rope_parameters": {"rope_theta": 10000.0, "rope_type": "yarn", "factor": 4.0,
                                      "original_max_position_embeddings": 64}}),
    llama("llama-sharded", writer="transformers", shard_bytes=90000, tie_word_embeddings=False),
    llama("llama-old-config", old=True, rope_theta=20000.0, rope_scaling={"type": "linear", "factor": 2.0},
          unlike=DEFAULT_ROPE),
    gpt2("gpt2-tied", stored="float32", writer="transformers", n_embd=48, vocab_size=300),
    gpt2("gpt2-odd", stored="float16", n_head=12, n_embd=60, vocab_size=331, n_prompt=70, n_positions=160, n_ctx=160),
    gpt2("gpt2-bare", stored="float32", prefix=False, mask_buffers=True, n_embd=48, n_positions=112, n_ctx=112),
    gpt2("gpt2-untied", tie_word_embeddings=False, n_embd=48, n_inner=150),
    gpt2("gpt2-gelu", n_embd=48, activation_function="gelu", unlike={"activation_function": "gelu_new"}),
    gpt2("gpt2-relu", activation_function="relu", n_inner=100, unlike={"activation_function": "gelu_new"}),
    mistral("mistral", sliding_window=4096, vocab_size=270),
    mistral("mistral-window", sliding_window=24, n_prompt=70, max_position_embeddings=256, tie_word_embeddings=False,
            unlike={"sliding_window": None}),
    mistral("mistral-window-long", sliding_window=70, n_prompt=150, max_position_embeddings=256, num_key_value_heads=2,
            vocab_size=259, unlike={"sliding_window": None}),
    qwen3("qwen3", vocab_size=290, rms_norm_eps=1e-6),
    qwen3("qwen3-window", hidden_size=48, use_sliding_window=True, sliding_window=24, max_window_layers=1, n_prompt=70,
          num_hidden_layers=3, max_position_embeddings=256, unlike={"layer_types": ["full_attention"] * 3}),
    exaone4("exaone4", num_attention_heads=12, hidden_size=96, intermediate_size=140, vocab_size=330),
]
