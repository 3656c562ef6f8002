"""Removes what nothing needs any more; scores and rows are never touched.

  amuro gc --workdir=work/study --dry_run      what would go, and how much it is
  amuro gc --workdir=work/study                finished models and states, old programs
  amuro gc --cache --days=90                   conversions not used for 90 days

Everything that goes is made again when it is asked for.
"""

from absl import flags

DESCRIPTION = "remove models, programs and conversions that nothing needs any more"
FIRST = "workdir"


def define_flags() -> None:
    """Declares the verb's flags."""
    flags.DEFINE_string("workdir", "", "Folder of a study.")
    flags.DEFINE_bool("cache", False, "Clean the cache of conversions ($AMURO_CACHE) too.")
    flags.DEFINE_float("days", 30.0, "Age of programs and conversions that go.", lower_bound=0.0)
    flags.DEFINE_bool("dry_run", False, "Say what would go, and remove nothing.")


def main() -> None:
    """Removes, and says what."""
    from amuro_jax.config import require
    from amuro_jax.study import cleanup

    args, removable = flags.FLAGS, []
    require(bool(args.workdir or args.cache), "nothing to clean", where="--workdir or --cache")
    how = {"days": args.days, "dry_run": args.dry_run}
    if args.workdir:
        removable += cleanup.in_workdir(args.workdir, **how)
    if args.cache:
        removable += cleanup.in_cache(**how)
    for one in removable:
        print(f"{one.size / 1e6:10.1f} MB  {one.where}  ({one.why})")
    total = sum(one.size for one in removable) / 1e6
    print(f"{total:.1f} MB {'would go' if args.dry_run else 'removed'}, {len(removable)} parts")
