"""Lists the configuration files that come with the package, or prints one of them.

  amuro configs
  amuro configs study/lab.py >my_study.py     # the start of one of your own
  amuro study --config=study/lab.py --dry_run

Every verb's --config takes such a name wherever it is run; a file of that path in the folder you
are in goes first.
"""

import sys
import textwrap

from absl import flags

from amuro_jax.cli import config_files
from amuro_jax.errors import ConfigError

DESCRIPTION = "list the configuration files that come with the package"
FIRST = "show"
WIDTH = 100


def define_flags() -> None:
    """Declares --show."""
    flags.DEFINE_string("show", "", "Print this file; empty: list all.")


def main() -> None:
    """Prints the list, or a file."""
    described = config_files.descriptions()
    if name := flags.FLAGS.show:
        path = config_files.find(name)
        if path is None:
            hint = f"there are {', '.join(described)}"
            raise ConfigError(f"no such file: {name}", where="--show", hint=hint)
        sys.stdout.write(path.read_text())
        return
    column = max(map(len, described)) + 2
    for name, text in described.items():
        indent = " " * column
        print(textwrap.fill(f"{name:<{column}}{text}", WIDTH, subsequent_indent=indent))
