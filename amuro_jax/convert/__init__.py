"""Any checkpoint in, any checkpoint out: one resolver, invertible rules, bounded memory."""


def open_checkpoint(name, cache_dir=None, **options):
    """A converted folder of the checkpoint `name`; see `resolver.open_checkpoint`."""
    from amuro_jax.convert import resolver

    return resolver.open_checkpoint(name, cache_dir, **options)


def weight_fingerprint(name, cache_dir=None, **options):
    """A digest of the weights of `name`, without a download; see `fingerprints`."""
    from amuro_jax.convert import fingerprints

    return fingerprints.weight_fingerprint(name, cache_dir, **options)
