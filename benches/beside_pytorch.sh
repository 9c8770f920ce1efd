#!/usr/bin/env bash
# Times training steps of voxfit and of PyTorch in turn, and prints a table of the medians of each program's best steps.
#   benches/beside_pytorch.sh PYTHON TORCH_STEP.py [ROUNDS]
# PYTHON has torch and dynamic-network-architectures; TORCH_STEP.py prints a line as `cargo bench --bench step` does:
# `hip2 bf16: parameters N, best step S s, peak memory +M MiB`. Each of PyTorch's settings (plain, tcmalloc, tcmalloc with
# channels last, tcmalloc with checkpoints) is tried; TCMALLOC says where libtcmalloc_minimal.so.4 is. CASES and STEPS
# narrow it down: CASES="hip2:bf16:5 p64:f32:3" SETTINGS="voxfit tcmalloc".
set -euo pipefail
python=$1 script=$2 rounds=${3:-3}
tcmalloc=${TCMALLOC:-/usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4}
cases=${CASES:-"hip2:bf16:6 hip2:f32:5 p64:bf16:4 p64:f32:3 p128:bf16:3 p128:f32:2"}
settings=${SETTINGS:-"voxfit plain tcmalloc channels-last checkpoint"}
rows=$(mktemp)
trap 'rm -f "$rows"' EXIT
cargo bench --bench step --no-run 2>/dev/null

once() { # setting case precision steps
  local setting=$1
  shift
  case $setting in
    voxfit) cargo bench --bench step -- "$@" ;;
    plain) "$python" "$script" "$@" ;;
    tcmalloc) LD_PRELOAD=$tcmalloc "$python" "$script" "$@" ;;
    channels-last) LD_PRELOAD=$tcmalloc CHANNELS_LAST=1 "$python" "$script" "$@" ;;
    checkpoint) LD_PRELOAD=$tcmalloc CHECKPOINT=1 "$python" "$script" "$@" ;;
    *) echo "$setting is no setting" >&2 && exit 2 ;;
  esac
}

for _ in $(seq "$rounds"); do
  for case in $cases; do
    IFS=: read -r name precision steps <<<"$case"
    for setting in $settings; do
      line=$(once "$setting" "$name" "$precision" "$steps" 2>/dev/null | grep "best step")
      sed "s/^\([a-z0-9]*\) \([a-z0-9]*\): .*best step \([0-9.]*\) s, peak memory +\([0-9]*\) MiB.*/\1 \2 $setting \3 \4/" <<<"$line" |
        tee -a "$rows" >&2
    done
  done
done

median() { sort -n | awk '{ v[NR] = $1 } END { print (NR % 2) ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }
printf '%-6s %-5s %-14s %8s %8s\n' case type setting seconds MiB
cut -d' ' -f1-3 "$rows" | awk '!seen[$0]++' | while read -r name precision setting; do
  of() { awk -v n="$name" -v p="$precision" -v s="$setting" -v f="$1" '$1 == n && $2 == p && $3 == s { print $f }' "$rows" | median; }
  printf '%-6s %-5s %-14s %8.3f %8.0f\n' "$name" "$precision" "$setting" "$(of 4)" "$(of 5)"
done
