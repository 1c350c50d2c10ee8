#!/usr/bin/env bash
# Starts a node of its own on free ports with a fresh data directory, runs the
# measurements of docs/benchmarks.md against it, and stops it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
kafka=127.0.0.1:${KAFKA_PORT:-19092} admin=127.0.0.1:${ADMIN_PORT:-18080}
dir=$(mktemp -d -p "${BENCH_DIR:-.}" entrepot-bench.XXXXXX)
node=0
finish() {
  if [ "$node" != 0 ]; then kill "$node" 2>/dev/null && wait "$node" 2>/dev/null || true; fi
  rm -rf "$dir"
}
trap finish EXIT

cat >"$dir/node.yaml" <<YAML
node:      {id: bench-1, site: bench, data_dir: "$dir/data"}
listeners: {kafka: {addr: "$kafka", advertise: "$kafka"}, admin: {addr: "$admin"}, peer: {addr: "127.0.0.1:0"}, registry: {addr: "off"}}
mesh:      {lan: {addr: "127.0.0.1:0"}, wan: {addr: "127.0.0.1:0"}}
YAML
./entrepot serve -c "$dir/node.yaml" >"$dir/node.log" 2>&1 &
node=$!
for _ in $(seq 100); do
  ./entrepot node status --admin "http://$admin" >/dev/null 2>&1 && break
  if ! kill -0 "$node" 2>/dev/null; then cat "$dir/node.log" >&2; exit 1; fi
  sleep 0.1
done

run() { echo; echo "\$ entrepot $*"; ./entrepot "$@" --brokers "$kafka"; }
echo "$(nproc) cores, $(uname -sr), $(date -u +%F)"
run bench produce --topic bench-1k --partitions 6 --record-size 1024 --records "${RECORDS_1K:-2000000}" --acks all
run bench consume --topic bench-1k --records "${RECORDS_1K:-2000000}"
run bench produce --topic bench-100 --partitions 6 --record-size 100 --records "${RECORDS_100:-10000000}" --acks all
run bench consume --topic bench-100 --records "${RECORDS_100:-10000000}"
