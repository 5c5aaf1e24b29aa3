#!/usr/bin/env bash
# Everything that a GPU is asked, on a machine without a network (docs/gpu.md):
#
#   experiments/gpu.sh bring --data_dir=DIR     at home: gpu_bring/1 and /2, to carry
#   experiments/gpu.sh check                    there: is everything there?
#   experiments/gpu.sh all [--minutes=9.5] [--debug]
#   experiments/gpu.sh peers|steps|seeds|graphs|race|byol, or some: peers,steps
#
# Results go to $OUT, or to results/. PYTHON=... names another than python3.
set -euo pipefail
cd "$(dirname "$0")/.."
case ${1:-all} in
-h | --help)
  sed -n '2,9s/^# \{0,1\}//p' experiments/gpu.sh
  exit
  ;;
esac
python=${PYTHON:-python3}
wheels=(gpu_bring/1/wheels/*.whl)
if [[ ${1:-all} != bring && -e ${wheels[0]} ]]; then
  site=$(mktemp -d)
  trap 'rm -rf "$site"' EXIT
  "$python" -m pip install -q --no-index --no-deps --no-compile --target "$site" \
    "${wheels[@]}"
  export PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}"
fi
"$python" -m experiments.gpu --do="${1:-all}" "${@:2}"
