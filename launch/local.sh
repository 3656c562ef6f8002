#!/usr/bin/env bash
# Runs one amuro command on this machine, detached, with its log beside its work.
#   launch/local.sh [--dry_run] LOGFILE VERB [--flags…]
#   launch/local.sh work/study.log study --config=configs/study/lab.py --config.workdir=work/study
set -euo pipefail
dry=0
[ "${1:-}" = "--dry_run" ] && { dry=1; shift; }
[ $# -ge 2 ] || { sed -n '2,4p' "$0" >&2; exit 2; }
log=$1; shift
amuro=${AMURO:-$(dirname "$0")/../.venv/bin/amuro}
command=(nohup "$amuro" "$@")
if [ "$dry" = 1 ]; then
  printf '%q ' "${command[@]}"; printf '>>%q 2>&1 &\n' "$log"
  exit 0
fi
mkdir -p "$(dirname "$log")"
"${command[@]}" >>"$log" 2>&1 </dev/null &
echo "process $!; follow it: tail -f $log. Killed anywhere, the same command goes on where it stopped."
