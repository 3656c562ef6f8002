#!/usr/bin/env bash
# Runs one amuro command on a Cloud TPU VM, its work on gs://. On one host (v5litepod-1, -4 or -8; v6e-1, -4 or -8) any command; on the
# hosts of a larger slice (v5litepod-16, v6e-32, …) score and lm-eval, which then run on all of them as one.
#   launch/tpu_vm.sh [--dry_run] NAME ZONE TYPE VERB [--flags…]
#   launch/tpu_vm.sh --dry_run amuro-1 us-west4-a v5litepod-8 train --config=configs/train/olmo1b.py:paws \
#     --config.checkpoint=allenai/OLMo-1B-hf@main --config.workdir=gs://bucket/paws --config.run.mesh=fsdp:8
# Creates the VM when it is not there, copies the checkout, installs the tpu extra, runs. Delete the VM yourself.
set -euo pipefail
dry=0
[ "${1:-}" = "--dry_run" ] && { dry=1; shift; }
[ $# -ge 4 ] || { sed -n '2,6p' "$0" >&2; exit 2; }
name=$1 zone=$2 type=$3; shift 3
root=$(cd "$(dirname "$0")/.." && pwd)
case "$type" in
  v5litepod-*) version=v2-alpha-tpuv5-lite ;;
  v6e-*) version=v2-alpha-tpuv6e ;;
  *) echo "unknown TPU type $type: single-host types are v5litepod-{1,4,8} and v6e-{1,4,8}" >&2; exit 2 ;;
esac
case "$type" in
  *-1 | *-4 | *-8) where=() ;;
  *)
    case "${1-}" in
      score | lm-eval) where=(--worker=all); set -- "$@" --cluster=auto ;;
      *) echo "$type spans several hosts; only score and lm-eval run on more than one" >&2; exit 2 ;;
    esac ;;
esac
say() { if [ "$dry" = 1 ]; then printf '%q ' "$@"; echo; else "$@"; fi; }
tpu=(gcloud compute tpus tpu-vm)
if [ "$dry" = 1 ] || ! "${tpu[@]}" describe "$name" --zone="$zone" >/dev/null 2>&1; then
  say "${tpu[@]}" create "$name" --zone="$zone" --accelerator-type="$type" --version="$version"
fi
archive=$(mktemp -u).tgz
say git -C "$root" archive --format=tgz --output="$archive" HEAD
say "${tpu[@]}" scp "$archive" "$name:amuro_jax.tgz" --zone="$zone" "${where[@]}"
remote="mkdir -p amuro_jax && tar xzf amuro_jax.tgz -C amuro_jax && cd amuro_jax && python3 -m venv .venv \
&& .venv/bin/pip install -q -c constraints.txt -e '.[tpu]' && .venv/bin/amuro $(printf '%q ' "$@")"
say "${tpu[@]}" ssh "$name" --zone="$zone" "${where[@]}" --command="$remote"
