#!/usr/bin/env bash
# A Cloud TPU VM, one host or all hosts of a slice, from its making to its end.
#   launch/tpu_vm.sh [--dry_run] create                 make it (TPU_SPOT=1: at the spot price)
#   launch/tpu_vm.sh [--dry_run] setup                  copy this commit to every host, install it
#   launch/tpu_vm.sh [--dry_run] run VERB [--flags…]    start `amuro VERB` on every host, detached
#   launch/tpu_vm.sh [--dry_run] logs [HOST]            follow the log of a host; first: 0
#   launch/tpu_vm.sh [--dry_run] status                 state of the VM, and of the run by host
#   launch/tpu_vm.sh [--dry_run] delete
#   launch/tpu_vm.sh version                            print the software version of TPU_TYPE
# From the environment, as in launch/env.sh.example: TPU_NAME, TPU_ZONE, TPU_TYPE, and TPU_VERSION,
# TPU_SPOT, PROJECT, EXTRAS where the defaults do not do. The hosts of a slice find each other.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$here/lib.sh"
[ $# -ge 1 ] || usage
action=$1
shift
need TPU_NAME TPU_ZONE TPU_TYPE

version=${TPU_VERSION:-}
if [ -z "$version" ]; then
  case $TPU_TYPE in
    v4-*) version="tpu-ubuntu2204-base" ;;
    v5litepod-*) version=v2-alpha-tpuv5-lite ;;
    v5p-*) version=v2-alpha-tpuv5 ;;
    v6e-*) version=v2-alpha-tpuv6e ;;
    *)
      echo "no software version is known for TPU type $TPU_TYPE: set TPU_VERSION" >&2
      exit 2
      ;;
  esac
fi
where=(--zone="$TPU_ZONE")
[ -z "${PROJECT:-}" ] || where+=(--project="$PROJECT")
tpu=(gcloud compute tpus tpu-vm)

on_hosts() { # on_hosts HOSTS COMMAND: a number, or all
  say "${tpu[@]}" ssh "$TPU_NAME" "${where[@]}" --worker="$1" --command="$2"
}

case $action in
  create)
    spot=()
    [ -z "${TPU_SPOT:-}" ] || spot=(--spot)
    say "${tpu[@]}" create "$TPU_NAME" "${where[@]}" --accelerator-type="$TPU_TYPE" \
      --version="$version" "${spot[@]}"
    ;;
  setup)
    archive=${TMPDIR:-/tmp}/amuro_jax-$TPU_NAME.tgz
    say git -C "$here/.." archive --format=tgz --output="$archive" HEAD
    say "${tpu[@]}" scp "$archive" "$TPU_NAME:amuro_jax.tgz" "${where[@]}" --worker=all
    on_hosts all "mkdir -p amuro_jax && tar xzf amuro_jax.tgz -C amuro_jax && cd amuro_jax && \
python3 -m venv .venv && .venv/bin/pip install -q -c constraints.txt -e '.[${EXTRAS:-tpu,gcs}]'"
    ;;
  run)
    [ $# -ge 1 ] || usage
    # The lock is the sign of a run at work; a second one ends at once.
    work="rm -f amuro.exit; amuro_jax/.venv/bin/amuro $(printf '%q ' "$@"); echo \$? >amuro.exit"
    on_hosts all \
      "nohup flock -n amuro.lock bash -c $(printf '%q' "$work") >>amuro.log 2>&1 </dev/null &"
    ;;
  logs)
    on_hosts "${1:-0}" "tail -n 100 -F amuro.log"
    ;;
  status)
    say "${tpu[@]}" describe "$TPU_NAME" "${where[@]}" --format="value(state,health)"
    on_hosts all "if ! flock -n amuro.lock true; then echo amuro: running; \
elif [ -e amuro.exit ]; then echo amuro: exit \$(cat amuro.exit); else echo amuro: none; fi; \
tail -n 1 amuro.log 2>/dev/null || true"
    ;;
  version)
    echo "$version"
    ;;
  delete)
    say "${tpu[@]}" delete "$TPU_NAME" "${where[@]}" --quiet
    ;;
  *) usage ;;
esac
