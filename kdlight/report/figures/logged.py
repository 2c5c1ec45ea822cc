"""What the values mean that a run logs while it trains, ``metrics.csv``."""

import re

from kdlight.report.columns import FLOOR, UNKNOWN, column

WORDS = {
    "train/loss": "What training makes small: the weighted sum of the terms of the loss.",
    "train/non_finite": "Updates so far that were skipped, as their gradient held a NaN or an "
    "infinity.",
    "val/updates": "Updates of the student so far: fewer than iterations where other parts are "
    "trained in between.",
    "balance/ratio": "Largest over smallest gradient of the terms of the loss at the sample.",
    "balance/threshold": "The ratio of gradients that this run accepts.",
}

LEVEL_WORDS = {
    "train/usage": "Share of the codes of level {} that training used lately, over what even use "
    "would show; near 0 the level has collapsed.",
    "val/usage": "Share of the codes of level {} that the held-out utterances use.",
    "val/perplexity": "Number of codes of level {} that, used evenly, would carry as much.",
}
"""Of what is logged once a level, as ``val/usage_3``."""

TERM = "A term of the loss, or a fact of the schedule, as the method logs it in training."


def logged_word(key: str) -> str:
    """What the logged value ``key``, such as ``val/frechet_features``, means; plain sentences."""
    if key in WORDS:
        return WORDS[key]
    level = re.fullmatch(r"(.+)_(\d+)", key)
    if level and level[1] in LEVEL_WORDS:
        return LEVEL_WORDS[level[1]].format(level[2])
    group, _, name = key.partition("/")
    if group == "balance":
        return f"Norm of the gradient that the term {name} of the loss has at the sample."
    if group != "val":
        return TERM
    if name.endswith(FLOOR):
        return f"{column(name.removesuffix(FLOOR)).label} of as many real samples."
    word = column(name).word
    return "A figure of the validation." if word == UNKNOWN else f"At validation. {word}"
