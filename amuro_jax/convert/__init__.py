"""Any checkpoint in, any checkpoint out: one door, invertible rules, bounded memory."""


def open_checkpoint(name, cache_dir=None, **options):
    """A converted folder of the checkpoint `name`; see `door.open_checkpoint`."""
    from amuro_jax.convert import door

    return door.open_checkpoint(name, cache_dir, **options)
