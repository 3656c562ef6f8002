#!/usr/bin/env bash
# Runs one amuro command on Google Kubernetes Engine.
#   launch/gke/submit.sh [--dry_run] tpu_slice VERB [--flags…]       on all hosts of a TPU slice
#   launch/gke/submit.sh [--dry_run] study_shards study --shard=auto [--flags…]     an Indexed Job
#   launch/gke/submit.sh [--dry_run] ray_job study --executor=ray [--flags…]        KubeRay
#   launch/gke/submit.sh [--dry_run] ray_cluster up                  the Ray cluster alone
# From the environment, as in launch/env.sh.example: NAME, IMAGE, and the variables at the head of
# launch/gke/render.py. QUEUE is a queue of Kueue. A dry run prints the manifest and the command.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. "$here/../lib.sh"
[ $# -ge 2 ] || usage
manifest=$(python3 "$here/render.py" "$@")
if [ "$dry" = 1 ]; then
  echo "$manifest"
fi
say kubectl apply --filename=- <<<"$manifest"
