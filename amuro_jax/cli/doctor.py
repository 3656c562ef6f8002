"""Says whether this machine, or all processes of a run, can do the work: one line for each thing.

  amuro doctor
  amuro doctor --workdir=gs://bucket/study --checkpoint=allenai/OLMo-1B-hf@main --mesh=fsdp:8
  amuro doctor --workdir=/shared/x --cluster=10.0.0.2:8476,2,0 --json

Looks at versions, devices, memory, disk, sums over all devices (with their bandwidth), the Hub and
its token (never shown); with --workdir at its storage, at clocks, and at whether compiled programs
are read back from it; with --checkpoint at its tokenizer. Each line is ok or says what to do; the
exit status is 1 where one is not ok.
"""

import dataclasses
import json
import sys

from absl import flags

from amuro_jax.cli import configure

DESCRIPTION = "say whether this machine can do the work, and what to do where it cannot"


def define_flags() -> None:
    """Declares the verb's flags."""
    flags.DEFINE_string("workdir", "", "Folder or URL whose storage is tried.")
    configure.define_checkpoint()
    flags.DEFINE_string("mesh", "", "Mesh that has to fit the devices, as fsdp:8.")
    flags.DEFINE_float("disk_gb", 10.0, "Disk space that is wanted free, in GB.")
    flags.DEFINE_bool("hub", True, "Ask the Hub.")
    flags.DEFINE_bool("json", False, "Print JSON.")
    configure.define_cache()
    configure.define_cluster()


def main() -> None:
    """Prints what was found; exits with 1 where something is not ok."""
    configure.join_cluster()
    from amuro_jax import processes
    from amuro_jax.doctor.examine import examine

    args = flags.FLAGS
    findings = examine(args.workdir, args.checkpoint, args.mesh, args.cache, args.disk_gb, args.hub)
    if processes.is_writer():
        if args.json:
            print(json.dumps([dataclasses.asdict(one) for one in findings], indent=1))
        else:
            print("\n".join(one.line() for one in findings))
    processes.meet("end of the doctor")
    if not all(one.ok for one in findings):
        sys.exit(1)
