"""Suggesting a known name for an unknown one: synonyms from other libraries, then similar spelling."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

SYNONYMS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        ("factors", "num_factors", "n_factors", "rank", "dim", "embedding_dim", "latent_dim", "n_components", "size"),
        ("embedding_size",),
    ),
    **dict.fromkeys(("neighbors", "neighbours", "n_neighbors", "num_neighbours"), ("num_neighbors",)),
    **dict.fromkeys(
        ("layers", "hidden", "mlp_layers", "hidden_units", "hidden_layers"),
        ("hidden_sizes", "user_sizes", "num_blocks"),
    ),
    **dict.fromkeys(("lr", "eta"), ("learning_rate",)),
    **dict.fromkeys(("reg", "lambda", "lambda_", "l2", "reg_lambda"), ("regularization", "weight_decay")),
    **dict.fromkeys(("iterations", "n_iter", "num_iterations", "n_epochs", "num_epochs", "max_epochs"), ("epochs",)),
    **dict.fromkeys(("batch", "bs"), ("batch_size",)),
    **dict.fromkeys(("n", "top_k", "topk", "length"), ("k", "num_neighbors")),
    **dict.fromkeys(("ratio", "test_size", "test_ratio", "share"), ("test",)),
    **dict.fromkeys(("random_state", "random_seed"), ("seed",)),
    **dict.fromkeys(("output_dir", "out_dir", "run"), ("output", "run")),
    "output": ("run",),
    **dict.fromkeys(("max_len", "maxlen", "max_length"), ("history_size",)),
    "k": ("num_neighbors",),
    "weight_decay": ("regularization",),
    "regularization": ("weight_decay",),
    "alpha": ("confidence",),
    "n_estimators": ("num_trees",),
    "gpu": ("cuda",),
    "temporal": ("time",),
    "chronological": ("time",),
    "knn": ("item_knn",),
    **dict.fromkeys(("similar", "predict"), ("recommend",)),
    "fit": ("train",),
}


PREDICTS_RATINGS = ("explicit_als", "funk_svd", "svd_pp", "item_knn", "user_knn")  # models with `predict`


def without_predict(model: str) -> str:
    """Return why a model has no `predict`, and which models have one."""
    return (
        f"{model} ranks items and does not predict ratings, so it has no predict(); score() returns what it ranks by. Models that "
        f"predict ratings: {', '.join(PREDICTS_RATINGS)}"
    )


def with_article(name: str) -> str:
    """Return a name after "a" or "an", as it is pronounced: an ALS, a BPR, an HNSW, an ItemKNN."""
    spelled = len(name) > 1 and name[:2].isupper()  # letter by letter
    return f"an {name}" if name[:1].upper() in ("AEFHILMNORSX" if spelled else "AEIO") else f"a {name}"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, whose plural ends in s: 1 trial, 2 trials, 1,000 items."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def synonym(word: str, known: Iterable[str]) -> str | None:
    """Return the known synonym of a word; both may be dotted: then the last parts are compared, preferring the same parent."""
    parent, _, name = word.lower().rpartition(".")
    several = sorted(known, key=lambda one: one.rpartition(".")[0] != parent)
    for other in (name, *SYNONYMS.get(name, ())):
        found = next((one for one in several if one.rpartition(".")[2] == other and one != word), None)
        if found is not None:
            return found
    return None


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the most likely known name for a word, if any."""
    several = list(known)
    if found := synonym(word, several):
        return found
    parent, _, name = word.rpartition(".")
    if name.lower() in SYNONYMS:  # its meaning is known, so a similar spelling would be misleading
        return None
    begin = f"{parent}." if parent and all(one.startswith(f"{parent}.") for one in several) else ""
    by_letters = {one.removeprefix(begin).lower(): one for one in several}
    close = difflib.get_close_matches(word.removeprefix(begin).lower(), list(by_letters), n=1, cutoff=0.6)
    return by_letters[close[0]] if close else None


def near(word: str, known: Iterable[str], elsewhere: Sequence[str] = ()) -> str:
    """Return " (did you mean …?)" for the most likely known name, or ""; synonyms may also be in `elsewhere`."""
    several = list(known)
    found = synonym(word, several) or synonym(word, elsewhere) or nearest(word, several)
    return f" (did you mean {found!r}?)" if found else ""
