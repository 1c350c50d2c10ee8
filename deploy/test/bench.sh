#!/usr/bin/env bash
# Starts a node of its own on free ports with a fresh data directory, runs the
# measurements of docs/benchmarks.md against it, and stops it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
site=bench
. deploy/test/node.sh

run() { echo; echo "\$ entrepot $*"; ./entrepot "$@" --brokers "$kafka"; }
echo "$(nproc) cores, $(uname -sr), $(date -u +%F)"
run bench produce --topic bench-1k --partitions 6 --record-size 1024 --records "${RECORDS_1K:-2000000}" --acks all
run bench consume --topic bench-1k --records "${RECORDS_1K:-2000000}"
run bench produce --topic bench-100 --partitions 6 --record-size 100 --records "${RECORDS_100:-10000000}" --acks all
run bench consume --topic bench-100 --records "${RECORDS_100:-10000000}"
