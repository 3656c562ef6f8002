"""Programs are counted when they are compiled, in the block only."""

import jax
import jax.numpy as jnp

from amuro_jax import compiles


def test_a_program_counts_once_per_shape_and_only_while_watched():
    double, one, two = jax.jit(lambda x: jnp.sin(x) * 2), jnp.ones(3), jnp.ones(5)
    with compiles.watch() as seen:
        double(one)
        double(one)
        first = seen.total
        double(two)
    double(jnp.ones(7))
    assert (first.compiled, first.cached) == (1, 0) and first.seconds > 0
    assert seen.total.compiled == 2 and (seen.total - first).record()["compiled"] == 1
    assert str(first) == f"compiled 1 programs in {first.seconds:.1f} s, 0 from the cache"
