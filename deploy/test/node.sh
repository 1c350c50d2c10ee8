# To be sourced, in the root of the repository, with site set: starts a node of
# its own with a fresh data directory, waits until it serves, and ends it with
# the script. Sets kafka, admin (host:port), dir and node (process ID).
kafka=127.0.0.1:${KAFKA_PORT:-19092} admin=127.0.0.1:${ADMIN_PORT:-18080}
dir=$(mktemp -d -p "${BENCH_DIR:-.}" entrepot-bench.XXXXXX)
node=0
finish() {
  if [ "$node" != 0 ]; then kill "$node" 2>/dev/null && wait "$node" 2>/dev/null || true; fi
  rm -rf "$dir"
}
trap finish EXIT

cat >"$dir/node.yaml" <<YAML
node:      {id: "$site-1", site: "$site", data_dir: "$dir/data"}
listeners: {kafka: {addr: "$kafka", advertise: "$kafka"}, admin: {addr: "$admin"}, peer: {addr: "127.0.0.1:0"}, registry: {addr: "off"}, connect: {addr: "off"}}
mesh:      {lan: {addr: "127.0.0.1:0"}, wan: {addr: "127.0.0.1:0"}}
YAML
./entrepot serve -c "$dir/node.yaml" >"$dir/node.log" 2>&1 &
node=$!
for _ in $(seq 100); do
  ./entrepot node status --admin "http://$admin" >/dev/null 2>&1 && break
  if ! kill -0 "$node" 2>/dev/null; then cat "$dir/node.log" >&2; exit 1; fi
  sleep 0.1
done
