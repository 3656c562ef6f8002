"""`python -m amuro_jax` is the `amuro` command."""

from amuro_jax.cli.main import run

if __name__ == "__main__":
    run()
