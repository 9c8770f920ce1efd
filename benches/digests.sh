#!/usr/bin/env bash
# One configuration, one result: trains a few steps over and over, in all the ways that must not matter and in some that
# must, and prints the digest of each. About six minutes on two cores, most of them for the portable code.
#     cargo build --release && benches/digests.sh [target/release/voxfit]
set -euo pipefail
cd "$(dirname "$0")/.."
voxfit="$(realpath "${1:-target/release/voxfit}")"
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
export VOXFIT_CACHE="$scratch/cache"

number=0
# An instruction set (- for the processor's best), then arguments.
run() {
  number=$((number + 1))
  local isa="$1" line
  shift
  [ "$isa" = - ] && isa=""
  line="$(VOXFIT_ISA="$isa" "$voxfit" -q train configs/quickstart.toml --fold all --steps 3 --run "$scratch/$number" \
    --set batch.effective=8 "$@" | tail -1)"
  printf '%s  %s %s\n' "${line:15:12}" "${isa:-best}" "$*"
}

echo "group norm, bf16: all the same"
for micro in 1 2 3 4 8; do run - --micro-batch "$micro"; done
for threads in 1 2 4; do run - --threads "$threads"; done
for recompute in none norms blocks; do run - --set memory.recompute="$recompute"; done
for memory in 64MiB 4GiB; do run - --memory "$memory"; done
for isa in avx512 avx2 portable; do run "$isa"; done
run portable --micro-batch 3 --threads 1
echo "another seed, another effective batch: others"
run - --set train.seed=1
run - --set batch.effective=7
echo "f32: all the same"
for isa in avx512bf16 avx512 avx2 portable; do run "$isa" --set precision.activations=f32; done
run - --set precision.activations=f32 --micro-batch 1
echo "instance norm: both the same"
run - --set network.norm=instance
run - --set network.norm=instance --micro-batch 3 --threads 1
echo "batch norm: the second, of another micro-batch, is another"
for micro in 8 4; do run - --set network.norm=batch --set network.batch_norm_min=1 --micro-batch "$micro"; done
run - --set network.norm=batch --set network.batch_norm_min=1 --micro-batch 8 --threads 1
