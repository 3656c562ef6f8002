# shellcheck shell=bash
# What the launchers share; they source it.

usage() { # the comment at the head of the launcher
  sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "$0" >&2
  exit 2
}

say() { # runs a command, or prints it in a dry run
  if [ "$dry" = 1 ]; then
    printf '%q ' "$@"
    echo
  else
    "$@"
  fi
}

need() { # ends where one of these variables is unset
  local name
  for name in "$@"; do
    if [ -z "${!name:-}" ]; then
      echo "$name is not set: see launch/env.sh.example" >&2
      exit 2
    fi
  done
}

dry=0
if [ "${1:-}" = --dry_run ]; then
  # shellcheck disable=SC2034  # the launchers and `say` read it
  dry=1
  shift
fi
