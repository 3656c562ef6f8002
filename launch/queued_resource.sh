#!/usr/bin/env bash
# Runs one amuro command on TPUs that wait in Cloud's queue, at the spot price, to its end.
#   launch/queued_resource.sh [--dry_run] VERB [--flags…]
#   launch/queued_resource.sh train --config=train/olmo1b.py:paws --config.workdir=gs://bucket/paws
# Asks for the slice, waits for it, installs and starts the command on all hosts. Where the slice is
# taken away (SUSPENDED, FAILED) it is deleted and asked for again under the same id, and the same
# command resumes from the states in its workdir, which has to be in gs://. Ends with the command's
# exit status; the slice is deleted then, and stays where this script is stopped. The variables are
# those of launch/tpu_vm.sh; TPU_QUEUE_ID names the request (TPU_NAME-queued), POLL_SECONDS is the
# time between two looks.
set -euo pipefail
here=$(dirname "$0")
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$here/lib.sh"
[ $# -ge 1 ] || usage
need TPU_NAME TPU_ZONE TPU_TYPE
id=${TPU_QUEUE_ID:-$TPU_NAME-queued}
poll=${POLL_SECONDS:-60}
where=(--zone="$TPU_ZONE")
[ -z "${PROJECT:-}" ] || where+=(--project="$PROJECT")
queue=(gcloud compute tpus queued-resources)
vm=("$here/tpu_vm.sh")
[ "$dry" = 0 ] || vm+=(--dry_run)

create() {
  say "${queue[@]}" create "$id" "${where[@]}" --node-id="$TPU_NAME" \
    --accelerator-type="$TPU_TYPE" --runtime-version="$("$here/tpu_vm.sh" version)" --spot
}

delete() {
  say "${queue[@]}" delete "$id" "${where[@]}" --force --quiet
}

state() { # MISSING where Cloud knows no such request, UNKNOWN where it did not answer
  local answer
  if answer=$("${queue[@]}" describe "$id" "${where[@]}" --format="value(state.state)" 2>&1); then
    echo "$answer"
  elif [[ $answer == *NOT_FOUND* ]]; then
    echo MISSING
  else
    echo UNKNOWN
  fi
}

start() { # looked at again where it fails
  "${vm[@]}" run "$@" || echo "not started; another attempt follows"
}

install_and_start() {
  if "${vm[@]}" setup; then start "$@"; else echo "not installed; another attempt follows"; fi
}

if [ "$dry" = 1 ]; then # one request, its run and its end; a slice that is taken away: both again
  create
  say "${queue[@]}" describe "$id" "${where[@]}" --format="value(state.state)"
  "${vm[@]}" setup
  "${vm[@]}" run "$@"
  "${vm[@]}" status
  delete
  exit 0
fi

while true; do
  now=$(state)
  echo "$(date -u +%FT%TZ) $id: $now"
  case $now in
    MISSING) create ;;
    SUSPENDED | FAILED) delete ;; # found missing at the next look, and asked for again
    ACTIVE)
      seen=$("${vm[@]}" status 2>&1 || true)
      case $seen in
        *"amuro: running"*) ;;
        *"amuro: exit 143"* | *"amuro: exit 75"*) start "$@" ;; # "run again" (docs/launch.md)
        *"amuro: exit "*)
          echo "$seen"
          delete
          exit "$(sed -n 's/^amuro: exit //p' <<<"$seen" | sort -n | tail -n 1)"
          ;;
        *) install_and_start "$@" ;; # a new slice, or one that does not answer yet
      esac
      ;;
  esac
  sleep "$poll"
done
