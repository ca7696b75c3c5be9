"""The small real runs that the forecast is fitted to and scored on: text, shape, length and schedule of each."""

from dataclasses import dataclass

from clm.config.fields import MUON

EVALUATIONS = 25
LOGS = 100

COSINE = {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr_rate": 0.1}}
COSINE_TO_0 = {"lr_scheduler_type": "cosine"}
LINEAR = {"lr_scheduler_type": "linear"}
CONSTANT = {"lr_scheduler_type": "constant_with_warmup"}


def stable_decay(steps: int, share: float) -> dict:
    """Warmup, a plateau, and a linear decay over the last `share` of the steps."""
    kwargs = {"num_decay_steps": round(steps * share), "decay_type": "linear", "min_lr_ratio": 0.0}
    return {"lr_scheduler_type": "warmup_stable_decay", "lr_scheduler_kwargs": kwargs}


@dataclass(frozen=True)
class Run:
    """One run: text, shape, samples in a step, steps and schedule."""

    text: str
    layers: int
    width: int
    vocab: int
    block: int
    batch: int
    steps: int
    rate: float
    schedule: dict
    dropout: float = 0.0
    accumulation: int = 1
    warmup: float = 0.05
    seed: int = 42
    optim: str = "adamw_torch_fused"
    weight_decay: float = 0.1
    embeddings: float = 1.0  # their learning rate, in the matrices'

    def recipe(self, texts: dict[str, str]) -> dict:
        """As run_clm.py reads it."""
        source = {"dataset_name": "python-docs"} if self.text == "python-docs" else {"train_file": texts[self.text]}
        separator = {"english": "blank_line", "wikitext": "article", "python-docs": None}[self.text]
        share = {"english": 0.12, "wikitext": 6, "python-docs": 2}[self.text]
        dropouts = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), self.dropout)
        embeddings = {"optim_args": f"embeddings={self.embeddings:g}"} if self.embeddings != 1 else {}
        return source | self.schedule | dropouts | embeddings | {
            "document_separator": separator,
            "validation_split_percentage": share,
            "vocab_size": self.vocab,
            "tokenizer_train_bytes": 20_000_000,
            "block_size": self.block,
            "shift_blocks": True,
            "n_layer": self.layers,
            "n_head": self.width // 32,
            "n_embd": self.width,
            "per_device_train_batch_size": self.batch,
            "per_device_eval_batch_size": 32,
            "gradient_accumulation_steps": self.accumulation,
            "optim": self.optim,
            "learning_rate": self.rate,
            "warmup_steps": self.warmup,
            "weight_decay": self.weight_decay,
            "adam_beta2": 0.99,
            "max_steps": self.steps,
            "eval_steps": self.steps // EVALUATIONS,
            "logging_steps": max(1, self.steps // LOGS),
            "save_strategy": "no",
            "load_best_model_at_end": False,
            "bf16": False,
            "use_cpu": True,
            "seed": self.seed,
        }  # fmt: skip


E, P, W = "english", "python-docs", "wikitext"
RUNS = {
    "e-1x64-cosine": Run(E, 1, 64, 1024, 64, 16, 1000, 4e-3, COSINE),
    "e-2x64-constant": Run(E, 2, 64, 1024, 128, 16, 750, 3e-3, CONSTANT),
    "p-2x96-linear": Run(P, 2, 96, 2048, 128, 16, 500, 3e-3, LINEAR),
    "w-2x96-cosine": Run(W, 2, 96, 1024, 64, 16, 750, 3e-3, COSINE),
    "e-3x128-wsd": Run(E, 3, 128, 2048, 128, 16, 500, 3e-3, stable_decay(500, 0.2)),
    "p-3x128-cosine": Run(P, 3, 128, 2048, 128, 16, 600, 3e-3, COSINE),
    "w-1x128-constant": Run(W, 1, 128, 2048, 64, 32, 500, 2e-3, CONSTANT, 0.1),
    "e-2x128-linear": Run(E, 2, 128, 4096, 64, 32, 500, 3e-3, LINEAR),
    "e-4x96-cosine0": Run(E, 4, 96, 2048, 128, 16, 500, 4e-3, COSINE_TO_0),
    "p-1x64-wsd": Run(P, 1, 64, 1024, 128, 16, 1000, 4e-3, stable_decay(1000, 0.4)),
    "w-2x64-linear": Run(W, 2, 64, 1024, 128, 16, 750, 4e-3, LINEAR),
    "e-2x192-cosine": Run(E, 2, 192, 2048, 64, 32, 400, 2e-3, COSINE),
    "p-2x128-constant": Run(P, 2, 128, 2048, 64, 32, 600, 1.5e-3, CONSTANT),
    "e-1x128-wsd": Run(E, 1, 128, 2048, 64, 32, 1000, 3e-3, stable_decay(1000, 0.3)),
    "e-3x64-small-batch": Run(E, 3, 64, 2048, 128, 8, 1250, 3e-3, COSINE),
    "e-2x96-large-batch": Run(E, 2, 96, 1024, 64, 32, 400, 5e-3, LINEAR, 0.0, 2),
    "w-3x96-wsd": Run(W, 3, 96, 2048, 64, 32, 500, 3e-3, stable_decay(500, 0.25)),
    "p-4x64-cosine": Run(P, 4, 64, 1024, 64, 32, 600, 4e-3, COSINE),
    "e-2x128-low-rate": Run(E, 2, 128, 2048, 128, 16, 500, 6e-4, CONSTANT),
    "p-1x192-linear": Run(P, 1, 192, 4096, 64, 32, 500, 2e-3, LINEAR, 0.1),
    "w-2x128-cosine0": Run(W, 2, 128, 1024, 128, 8, 1000, 3e-3, COSINE_TO_0, 0.1),
    "e-4x128-cosine": Run(E, 4, 128, 4096, 128, 8, 750, 2e-3, COSINE),
    "e-2x64-long": Run(E, 2, 64, 1024, 64, 16, 2000, 4e-3, LINEAR),
    "p-2x64-constant-long": Run(P, 2, 64, 1024, 64, 16, 1500, 2e-3, CONSTANT),
    "e-4x192-linear": Run(E, 4, 192, 2048, 64, 16, 500, 2e-3, LINEAR),
    "w-1x64-many-epochs": Run(W, 1, 64, 1024, 64, 32, 1000, 5e-3, COSINE),
    "e-1x96-linear": Run(E, 1, 96, 2048, 64, 16, 1000, 3e-3, LINEAR),
    "p-2x64-cosine0": Run(P, 2, 64, 1024, 64, 32, 750, 3e-3, COSINE_TO_0, 0.1),
    "e-2x64-wsd": Run(E, 2, 64, 1024, 128, 16, 750, 4e-3, stable_decay(750, 0.5)),
    "w-2x96-constant": Run(W, 2, 96, 1024, 64, 16, 750, 2e-3, CONSTANT),
    "e-3x96-cosine": Run(E, 3, 96, 4096, 64, 32, 500, 2e-3, COSINE),
    "p-3x64-linear": Run(P, 3, 64, 2048, 64, 32, 600, 3e-3, LINEAR, seed=7),
    "e-1x64-constant": Run(E, 1, 64, 1024, 64, 16, 1500, 3e-3, CONSTANT, seed=7),
    "w-2x64-wsd": Run(W, 2, 64, 2048, 64, 16, 1000, 3e-3, stable_decay(1000, 0.2), 0.1, seed=7),
    # The same runs as above with dropout, for what it changes.
    "e-1x64-cosine-dropout": Run(E, 1, 64, 1024, 64, 16, 1000, 4e-3, COSINE, 0.1),
    "w-2x96-cosine-dropout": Run(W, 2, 96, 1024, 64, 16, 750, 3e-3, COSINE, 0.1),
    "w-1x64-many-epochs-dropout": Run(W, 1, 64, 1024, 64, 32, 1000, 5e-3, COSINE, 0.1),
}

# Made after the first version of the forecast was frozen.
RUNS |= {
    "f-e-2x128-cosine": Run(E, 2, 128, 2048, 64, 16, 1000, 2e-3, COSINE, seed=1),
    "f-p-1x96-constant": Run(P, 1, 96, 2048, 64, 32, 750, 2e-3, CONSTANT, seed=1),
    "f-w-2x64-linear": Run(W, 2, 64, 2048, 128, 8, 1000, 3e-3, LINEAR, 0.1, seed=1),
    "f-e-3x64-wsd": Run(E, 3, 64, 1024, 128, 16, 750, 3e-3, stable_decay(750, 0.3), seed=1),
}
# And some of the first ones without warmup or weight decay, for what those change.
RUNS |= {
    "e-1x64-cosine-no-warmup": Run(E, 1, 64, 1024, 64, 16, 1000, 4e-3, COSINE, warmup=0.0),
    "w-2x96-cosine-no-warmup": Run(W, 2, 96, 1024, 64, 16, 750, 3e-3, COSINE, warmup=0.0),
    "w-2x96-cosine-no-decay": Run(W, 2, 96, 1024, 64, 16, 750, 3e-3, COSINE, weight_decay=0.0),
    "w-1x64-many-epochs-no-decay": Run(W, 1, 64, 1024, 64, 32, 1000, 5e-3, COSINE, weight_decay=0.0),
}
# By Muon, as the recipes train, at about four times AdamW's rates. The first eight had query, key and value as one.
RUNS |= {
    "f-p-3x128-muon-cosine": Run(P, 3, 128, 2048, 128, 16, 600, 1.2e-2, COSINE, optim=MUON),
    "f-e-2x64-muon-linear": Run(E, 2, 64, 1024, 128, 16, 750, 1.6e-2, LINEAR, optim=MUON),
    "f-w-2x96-muon-cosine": Run(W, 2, 96, 1024, 64, 16, 750, 1e-2, COSINE, optim=MUON),
    "f-e-3x128-muon-wsd": Run(E, 3, 128, 2048, 128, 16, 500, 1e-2, stable_decay(500, 0.2), optim=MUON),
    "f-p-2x64-muon-constant": Run(P, 2, 64, 1024, 64, 16, 1000, 8e-3, CONSTANT, optim=MUON),
    "f-e-4x128-muon-cosine0": Run(E, 4, 128, 4096, 128, 8, 750, 8e-3, COSINE_TO_0, optim=MUON),
    "f-p-1x96-muon-linear": Run(P, 1, 96, 2048, 64, 32, 750, 1.2e-2, LINEAR, optim=MUON),
    "f-w-1x128-muon-wsd": Run(W, 1, 128, 2048, 64, 32, 500, 1e-2, stable_decay(500, 0.3), 0.1, optim=MUON),
    "m-e-1x64-cosine": Run(E, 1, 64, 1024, 64, 16, 1000, 1.2e-2, COSINE, optim=MUON),
    "m-e-2x64-constant": Run(E, 2, 64, 1024, 128, 16, 750, 8e-3, CONSTANT, optim=MUON),
    "m-p-2x96-linear": Run(P, 2, 96, 2048, 128, 16, 500, 1.2e-2, LINEAR, optim=MUON),
    "m-w-2x96-cosine": Run(W, 2, 96, 1024, 64, 16, 750, 8e-3, COSINE, 0.1, optim=MUON, seed=7),
    "m-e-3x128-cosine": Run(E, 3, 128, 2048, 128, 16, 500, 8e-3, COSINE, optim=MUON),
    "m-p-3x128-wsd": Run(P, 3, 128, 2048, 128, 16, 600, 8e-3, stable_decay(600, 0.3), optim=MUON),
    "m-w-1x128-constant": Run(W, 1, 128, 2048, 64, 32, 500, 6e-3, CONSTANT, 0.1, optim=MUON),
    "m-e-2x128-linear": Run(E, 2, 128, 4096, 64, 32, 500, 1e-2, LINEAR, optim=MUON),
    "m-e-4x96-cosine": Run(E, 4, 96, 2048, 128, 16, 500, 1.2e-2, COSINE, optim=MUON),
    "m-p-1x64-wsd": Run(P, 1, 64, 1024, 128, 16, 1000, 1.2e-2, stable_decay(1000, 0.4), optim=MUON),
    "m-w-2x64-linear": Run(W, 2, 64, 1024, 128, 16, 750, 1.2e-2, LINEAR, optim=MUON),
    "m-e-2x192-cosine": Run(E, 2, 192, 2048, 64, 32, 400, 6e-3, COSINE, optim=MUON),
    "m-p-2x128-constant": Run(P, 2, 128, 2048, 64, 32, 600, 6e-3, CONSTANT, optim=MUON),
    "m-e-1x128-wsd": Run(E, 1, 128, 2048, 64, 32, 1000, 1e-2, stable_decay(1000, 0.2), optim=MUON),
    "m-e-3x64-small-batch": Run(E, 3, 64, 2048, 128, 8, 1250, 8e-3, COSINE, optim=MUON),
    "m-e-2x96-large-batch": Run(E, 2, 96, 1024, 64, 32, 400, 1.6e-2, LINEAR, 0.0, 2, optim=MUON),
    "m-w-3x96-wsd": Run(W, 3, 96, 2048, 64, 32, 500, 8e-3, stable_decay(500, 0.25), optim=MUON),
    "m-p-4x64-cosine": Run(P, 4, 64, 1024, 64, 32, 600, 1.6e-2, COSINE, optim=MUON),
    "m-e-2x128-low-rate": Run(E, 2, 128, 2048, 128, 16, 500, 3e-3, COSINE, optim=MUON),
    "m-p-1x192-cosine": Run(P, 1, 192, 4096, 64, 32, 500, 6e-3, COSINE, 0.1, optim=MUON),
    "m-w-2x128-cosine0": Run(W, 2, 128, 1024, 128, 8, 1000, 8e-3, COSINE_TO_0, 0.1, optim=MUON),
    "m-p-3x64-cosine": Run(P, 3, 64, 2048, 64, 32, 600, 4e-3, COSINE, optim=MUON, seed=7),
    "m-e-2x64-long": Run(E, 2, 64, 1024, 64, 16, 2000, 1.2e-2, COSINE, optim=MUON),
    "m-e-1x64-constant": Run(E, 1, 64, 1024, 64, 16, 1500, 1e-2, CONSTANT, optim=MUON, seed=7),
    "m-w-2x64-wsd": Run(W, 2, 64, 2048, 64, 16, 1000, 1e-2, stable_decay(1000, 0.2), 0.1, optim=MUON, seed=7),
    "m-p-2x64-linear-low-rate": Run(P, 2, 64, 1024, 64, 32, 750, 4e-3, LINEAR, optim=MUON),
}
# Made after an earlier forecast was frozen; they are fitted to now.
RUNS |= {
    "g-e-1x96-cosine": Run(E, 1, 96, 1024, 128, 16, 600, 3e-3, COSINE, seed=1),
    "g-p-3x96-linear": Run(P, 3, 96, 1024, 64, 32, 600, 2e-3, LINEAR, seed=1),
    "g-w-2x128-wsd": Run(W, 2, 128, 2048, 64, 16, 750, 2e-3, stable_decay(750, 0.3), 0.1, seed=1),
    "g-e-4x128-cosine0": Run(E, 4, 128, 2048, 64, 16, 600, 2e-3, COSINE_TO_0, seed=1),
    # by Muon
    "g-e-2x96-cosine": Run(E, 2, 96, 2048, 64, 16, 1000, 6e-3, COSINE, optim=MUON, seed=1),
    "g-p-2x64-wsd": Run(P, 2, 64, 2048, 128, 16, 600, 1e-2, stable_decay(600, 0.3), optim=MUON, seed=1),
    "g-w-3x64-linear": Run(W, 3, 64, 1024, 64, 16, 1000, 8e-3, LINEAR, 0.1, optim=MUON, seed=1),
    "g-e-3x96-cosine0": Run(E, 3, 96, 1024, 128, 16, 600, 1e-2, COSINE_TO_0, optim=MUON, seed=1),
    "g-p-3x96-cosine": Run(P, 3, 96, 2048, 64, 32, 500, 8e-3, COSINE, optim=MUON, seed=1),
    "g-e-1x128-constant": Run(E, 1, 128, 2048, 64, 32, 600, 5e-3, CONSTANT, optim=MUON, seed=1),
}
# With blocks that shift in each epoch, near the quickstart, which itself is never fitted to (tests/explain).
RUNS |= {
    "s-p-3x96-muon-cosine": Run(P, 3, 96, 2048, 128, 16, 700, 8e-3, COSINE, warmup=0.1, optim=MUON, seed=3),
    "s-w-3x128-muon-cosine": Run(W, 3, 128, 1024, 128, 16, 600, 1e-2, COSINE, warmup=0.1, optim=MUON, seed=3),
    "s-p-2x128-muon-wsd": Run(P, 2, 128, 1024, 128, 16, 800, 8e-3, stable_decay(800, 0.3), optim=MUON, seed=3),
    "s-p-4x96-muon-linear": Run(P, 4, 96, 2048, 128, 16, 600, 6e-3, LINEAR, warmup=0.1, optim=MUON, seed=4),
    "s-p-3x128-muon-long": Run(P, 3, 128, 4096, 128, 16, 1000, 1.4e-2, COSINE, warmup=0.1, optim=MUON, seed=4),
    "s-w-2x96-muon-linear": Run(W, 2, 96, 2048, 64, 32, 900, 6e-3, LINEAR, optim=MUON, seed=4),
    "s-p-3x96-cosine": Run(P, 3, 96, 1024, 64, 32, 750, 3e-3, COSINE, warmup=0.1, seed=3),
    "s-w-2x128-cosine": Run(W, 2, 128, 2048, 128, 16, 600, 2e-3, COSINE, 0.1, warmup=0.1, seed=3),
}
# With a weight decay three times the usual one, most of them with embeddings at twice the rate, as the quickstart is
# since; it itself is in none, and no seed is its.
DECAYED = {"warmup": 0.05, "optim": MUON, "weight_decay": 0.3}
DECAYED_2 = DECAYED | {"embeddings": 2.0}
RUNS |= {
    "d-p-2x128-linear": Run(P, 2, 128, 2048, 128, 16, 1000, 1e-2, LINEAR, seed=6, **DECAYED_2),
    "d-p-2x128-linear-long": Run(P, 2, 128, 2048, 128, 16, 1300, 1.2e-2, LINEAR, seed=7, **DECAYED_2),
    "d-p-2x128-cosine0": Run(P, 2, 128, 2048, 128, 16, 900, 8e-3, COSINE_TO_0, seed=8, **DECAYED),
    "d-p-3x128-linear": Run(P, 3, 128, 2048, 128, 16, 800, 1e-2, LINEAR, seed=7, **DECAYED_2),
    "d-p-2x96-linear": Run(P, 2, 96, 1024, 128, 16, 900, 1.2e-2, LINEAR, seed=6, **DECAYED_2),
    "d-p-1x128-linear": Run(P, 1, 128, 2048, 128, 16, 1500, 1.2e-2, LINEAR, seed=8, **DECAYED_2),
    "d-p-2x64-wsd": Run(P, 2, 64, 2048, 64, 32, 900, 1.2e-2, stable_decay(900, 0.5), seed=6, **DECAYED),
    "d-e-2x128-linear": Run(E, 2, 128, 2048, 128, 16, 800, 1e-2, LINEAR, seed=6, **DECAYED_2),
    "d-e-2x64-linear": Run(E, 2, 64, 1024, 64, 32, 900, 1.2e-2, LINEAR, seed=7, **DECAYED),
    "d-e-3x96-cosine": Run(E, 3, 96, 2048, 128, 16, 600, 1e-2, COSINE, seed=6, **DECAYED_2),
    "d-w-2x96-linear": Run(W, 2, 96, 1024, 128, 16, 700, 1e-2, LINEAR, seed=6, **DECAYED_2),
    "d-w-2x128-cosine0": Run(W, 2, 128, 2048, 64, 32, 600, 8e-3, COSINE_TO_0, seed=7, **DECAYED),
}
# Made after an earlier forecast had been frozen in a commit of its own; held out of every fit since.
HELD_OUT_FIRST = {
    "h-e-2x96-cosine": Run(E, 2, 96, 1024, 128, 16, 600, 3e-3, COSINE, seed=2),
    "h-p-2x128-linear": Run(P, 2, 128, 2048, 64, 32, 500, 2e-3, LINEAR, seed=2),
    "h-w-3x64-wsd": Run(W, 3, 64, 1024, 64, 16, 1000, 3e-3, stable_decay(1000, 0.25), 0.1, seed=2),
    "h-e-1x128-cosine0": Run(E, 1, 128, 2048, 64, 32, 750, 3e-3, COSINE_TO_0, seed=2),
    "h-p-1x64-constant": Run(P, 1, 64, 1024, 128, 16, 1000, 3e-3, CONSTANT, seed=2),
    # by Muon
    "h-e-3x64-cosine": Run(E, 3, 64, 1024, 64, 16, 1000, 1e-2, COSINE, optim=MUON, seed=2),
    "h-p-3x64-wsd": Run(P, 3, 64, 2048, 64, 32, 600, 8e-3, stable_decay(600, 0.25), optim=MUON, seed=2),
    "h-w-2x128-linear": Run(W, 2, 128, 2048, 64, 16, 750, 8e-3, LINEAR, 0.1, optim=MUON, seed=2),
    "h-e-2x128-wsd": Run(E, 2, 128, 1024, 128, 16, 500, 1e-2, stable_decay(500, 0.3), optim=MUON, seed=2),
    "h-p-2x96-cosine": Run(P, 2, 96, 1024, 64, 32, 600, 1e-2, COSINE, optim=MUON, seed=2),
}
# Made after the forecast that ships had been frozen in a commit of its own: nothing in it was chosen by these.
HELD_OUT_SECOND = {
    "k-w-1x96-cosine": Run(W, 1, 96, 2048, 64, 16, 800, 3e-3, COSINE, seed=5),
    "k-p-2x96-wsd": Run(P, 2, 96, 1024, 64, 16, 500, 3e-3, stable_decay(500, 0.35), seed=5),
    "k-p-1x128-cosine0": Run(P, 1, 128, 2048, 64, 16, 600, 3e-3, COSINE_TO_0, seed=5),
    "k-e-2x64-linear": Run(E, 2, 64, 2048, 64, 16, 600, 2.5e-3, LINEAR, seed=5),
    "k-e-3x96-constant": Run(E, 3, 96, 2048, 64, 16, 450, 2e-3, CONSTANT, seed=5),
    # by Muon
    "k-p-1x96-cosine": Run(P, 1, 96, 1024, 64, 16, 700, 1e-2, COSINE, optim=MUON, seed=5),
    "k-w-2x64-constant": Run(W, 2, 64, 1024, 64, 16, 600, 8e-3, CONSTANT, 0.1, optim=MUON, seed=5),
    "k-w-3x96-cosine0": Run(W, 3, 96, 1024, 64, 16, 450, 8e-3, COSINE_TO_0, optim=MUON, seed=5),
    "k-e-1x64-linear": Run(E, 1, 64, 2048, 64, 16, 600, 1.2e-2, LINEAR, optim=MUON, seed=5),
    "k-e-2x128-wsd": Run(E, 2, 128, 2048, 64, 16, 500, 8e-3, stable_decay(500, 0.2), optim=MUON, seed=5),
}
HELD_OUT = HELD_OUT_FIRST | HELD_OUT_SECOND
RUNS |= HELD_OUT
