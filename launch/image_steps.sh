#!/usr/bin/env bash
# What launch/Dockerfile does, without docker: the wheel, built from what it copies, in a fresh
# virtual environment.
#   launch/image_steps.sh [--dry_run] FOLDER [cpu|cuda|tpu]
#   launch/image_steps.sh /tmp/image && /tmp/image/venv/bin/amuro configs
# EXTRAS: further extras of setup.py, as the image's argument (gcs). PYTHON: the interpreter.
set -euo pipefail
here=$(dirname "$0")
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$here/lib.sh"
[ $# -ge 1 ] || usage
folder=$1
target=${2:-cpu}
case $target in
  cpu | cuda | tpu) ;;
  *) usage ;;
esac
if [ -e "$folder" ]; then
  echo "$folder is there already; give a folder that is not" >&2
  exit 2
fi

say mkdir -p "$folder/source"
while read -r -a sources; do # the COPY lines of the stage that builds the wheel
  for source in "${sources[@]}"; do
    say cp -r "$here/../$source" "$folder/source/"
  done
done < <(sed -n '/ AS wheel$/,/^FROM/{s/^COPY \(.*\) [^ ]*$/\1/p}' "$here/Dockerfile")
say "${PYTHON:-python3}" -m venv "$folder/venv"
say "$folder/venv/bin/pip" wheel --quiet --no-deps "--wheel-dir=$folder/wheels" "$folder/source"
wheel=$folder/wheels/amuro_jax.whl
if [ "$dry" = 0 ]; then
  wheel=$(echo "$folder"/wheels/*.whl)
fi
say "$folder/venv/bin/pip" install --quiet -c "$here/../constraints.txt" \
  "${wheel}[$target,${EXTRAS-gcs}]"
