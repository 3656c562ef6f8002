"""What a report says of where its numbers come from: settings, software, hashes. No jax."""

from amuro_jax.analyses import words

IMPORTED = (
    "standard errors are the source's, where it has them; the scores have no rows here, so that "
    "nothing is paired"
)


def provenance(scored: list, trained: list, config) -> dict:
    """What the numbers come from: settings, software, hashes of checkpoints and data, time.

    Args:
        scored, trained: records of the study's cells and of fine-tunings.
        config: of the study.
    """
    sources = sorted({record.imported for record in scored if record.imported})
    scored = [record for record in scored if not record.imported]
    if not scored:
        facts = {"imported from": ", ".join(sources), "uncertainty": IMPORTED}
        return {"about": facts, "checkpoints": {}, "data": {}}
    scoring, models = config.scoring, {record.model for record in scored}
    trained = [record for record in trained if record.model in models]
    switches = sorted({name for record in scored for name, on in record.switches.items() if on})
    protocol = ", ".join(sorted({record.protocol for record in scored}))
    sources = [record.provenance for record in scored]
    software = {f"amuro_jax {one.code}, jax {one.jax}, {one.devices}" for one in sources}
    minutes = [sum(record.seconds for record in group) / 60 for group in (trained, scored)]
    shots = ", ".join(map(str, sorted({record.shots for record in scored})))
    facts = {
        "checkpoints from": config.suite,
        "protocol": protocol + (f"; switches on: {', '.join(switches)}" if switches else ""),
        "shots": f"{shots}, drawn with seed {scoring.shot_seed}",
        "formats": ", ".join(dict.fromkeys(record.format for record in scored)),
        "method": f"{scoring.method} for labels; at most {scoring.max_new_tokens} new tokens; "
        f"{scoring.rows or 'all'} rows per set",
        "uncertainty": f"bootstrap over test rows, {scoring.bootstrap} resamples; "
        f"{_training_seeds(config)}, so the variance of training is not in it; intervals are 95 % "
        "each; where many comparisons are counted, p-values are corrected (Holm)",
        **recipes(trained),
        "software": "; ".join(sorted(software)),
        "tokenizer": ", ".join(sorted({source.tokenizer[:16] for source in sources})),
        "time": f"{minutes[0]:.1f} min fine-tuning, {minutes[1]:.1f} min scoring (sum over cells)",
    }
    hashes = {
        record.model.checkpoint: record.provenance.model
        for record in scored
        if not record.model.tuned_on
    }
    data = {
        f"{record.task} {split}": digest[:16]
        for record in scored
        for split, digest in record.provenance.data.items()
    }
    return {"about": facts, "checkpoints": hashes, "data": dict(sorted(data.items()))}


def _training_seeds(config):
    if not config.seeds:
        return "one training seed"
    return f"means over {words.count(len(config.seeds), 'training seed')}"


def reading(scored: list, config) -> str:
    """How the page's intervals are to be read."""
    if all(record.imported for record in scored):
        return f"Imported results: {IMPORTED}."
    behind = "One training seed stands behind each fine-tuned model"
    if config.seeds:
        behind = f"Fine-tuned scores are {_training_seeds(config)}"
    return (
        "Intervals are 95 % over test rows, the same rows drawn for every model. "
        f"{behind}, so differences between models carry more uncertainty than shown."
    )


RECIPE = (
    "rows",
    "epochs",
    "batch_size",
    "learning_rate",
    "warmup_fraction",
    "weight_decay",
    "clip_norm",
    "max_length",
    "dtype",
    "seed",
)


def recipes(trained: list) -> dict[str, str]:
    """What each fine-tuning set's models were trained with, from their records.

    Two recipes of one set are both named.
    """
    recipes_: dict[str, list[str]] = {}
    for record in trained:
        text = ", ".join(f"{name} {getattr(record.recipe, name)}" for name in RECIPE)
        texts = recipes_.setdefault(f"fine-tuning on {record.model.tuned_on}", [])
        if text not in texts:
            texts.append(text)
    return {name: "; or: ".join(texts) for name, texts in sorted(recipes_.items())}
