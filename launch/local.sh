#!/usr/bin/env bash
# Runs one amuro command on this machine, detached, with its log beside its work.
#   launch/local.sh [--dry_run] LOGFILE VERB [--flags…]
#   launch/local.sh work/study.log study --config=study/lab.py --config.workdir=work/study
# PROCESSES=n starts n processes, with logs LOGFILE.0 … : those of train, score and lm-eval work as
# one; those of a study take a checkpoint each. DEVICES=m gives each m virtual CPU devices. PORT is
# the one at which the processes meet.
set -euo pipefail
here=$(dirname "$0")
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$here/lib.sh"
[ $# -ge 2 ] || usage
log=$1
shift
amuro=${AMURO:-$here/../.venv/bin/amuro}
processes=${PROCESSES:-1}

for ((number = 0; number < processes; number++)); do
  command=(nohup)
  if [ -n "${DEVICES:-}" ]; then
    flags="${XLA_FLAGS:+$XLA_FLAGS }--xla_force_host_platform_device_count=$DEVICES"
    command+=(env JAX_PLATFORMS=cpu "XLA_FLAGS=$flags")
  fi
  command+=("$amuro" "$@")
  file=$log
  if [ "$processes" -gt 1 ]; then
    file=$log.$number
    case $1 in
      train | score | lm-eval) command+=("--cluster=127.0.0.1:${PORT:-8476},$processes,$number") ;;
    esac
  fi
  if [ "$dry" = 1 ]; then
    printf '%q ' "${command[@]}"
    printf '>>%q 2>&1 &\n' "$file"
    continue
  fi
  mkdir -p "$(dirname "$file")"
  "${command[@]}" >>"$file" 2>&1 </dev/null &
  echo "process $!; follow it: tail -f $file"
done
if [ "$dry" = 0 ]; then
  echo "Killed anywhere, the same command goes on where it stopped."
fi
