#!/usr/bin/env bash
# Apache Kafka at the version of pom.xml, for comparisons and compatibility
# tests. Everything lands in .cache/kafka; the first run fetches it with Maven.
#
#   kafka.sh setup                        install Java, Maven and the jars if they are missing
#   kafka.sh start DIR PORT [CONTROLLER_PORT] [KEY=VALUE...]
#                                         one KRaft node with Kafka's default config, data and log in DIR;
#                                         waits until it serves, then prints its process ID
#   kafka.sh serve DIR PORT [CONTROLLER_PORT] [KEY=VALUE...]
#                                         the same node as this very process, which ends with it
#   kafka.sh stop DIR                     end that node and wait for it
#   kafka.sh tool CLASS [ARGUMENT...]     run a main class, or a program by its .java file, for example
#                                         org.apache.kafka.tools.TopicCommand --bootstrap-server 127.0.0.1:9092 --list
#   kafka.sh version                      print Kafka's version
#   kafka.sh classpath                    print the class path, for a test that compiles its own program
#
# KAFKA_HEAP_OPTS and KAFKA_LOG_LEVEL (WARN) are passed on. JAVA_HOME chooses the Java.
# One node of several is given node.id=N and controller.quorum.voters=1@host:port,…
# and is formatted with KAFKA_CLUSTER_ID, which is the same for all of them; each
# waits for the others, so they are started at the same time.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=$(cd "$here/../.." && pwd)/.cache/kafka
java=${JAVA_HOME:+$JAVA_HOME/bin/}java

fail() { echo "kafka.sh: $*" >&2; exit 1; }

# setup lets go of its lock at once: nodes of one cluster start at the same time.
setup() {
  mkdir -p "$cache"
  exec 9>"$cache/.lock"
  flock 9
  fetch
  exec 9>&-
}

fetch() {
  # The copy of the pom is made last, so that a half-made cache is made again.
  if [ -d "$cache/jars" ] && cmp -s "$here/pom.xml" "$cache/pom.xml" && command -v "${java}c" >/dev/null; then return; fi
  local missing=()
  # The compiler too: tests run programs from their source.
  command -v "${java}c" >/dev/null || missing+=(default-jdk-headless)
  command -v mvn >/dev/null || missing+=(maven)
  if [ ${#missing[@]} -gt 0 ]; then
    { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; } || fail "needs ${missing[*]}; install them, or run as root on Debian"
    echo "kafka.sh: installing ${missing[*]}" >&2
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"; } >"$cache/apt.log" 2>&1 ||
      { tail -n 20 "$cache/apt.log" >&2; fail "apt-get could not install ${missing[*]}"; }
  fi
  echo "kafka.sh: fetching Apache Kafka $(version)" >&2
  rm -rf "$cache/jars"
  mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies -DoutputDirectory="$cache/jars" >&2 || fail "Maven could not fetch Kafka"
  cp "$here/pom.xml" "$cache/pom.xml"
}

version() { sed -n 's:.*<kafka.version>\(.*\)</kafka.version>.*:\1:p' "$here/pom.xml"; }

# run HEAP CLASS ARGUMENTS...: replaces this process. The collector's settings
# are those of Kafka's start script.
run() {
  local heap=$1
  shift
  # shellcheck disable=SC2086
  exec "$java" ${KAFKA_HEAP_OPTS:-$heap} -server -XX:+UseG1GC -XX:MaxGCPauseMillis=20 \
    -XX:InitiatingHeapOccupancyPercent=35 -XX:+ExplicitGCInvokesConcurrent -Djava.awt.headless=true \
    -Dlog4j2.configurationFile="$here/log4j2.properties" -Dkafka.log.level="${KAFKA_LOG_LEVEL:-WARN}" \
    -cp "$cache/jars/*" "$@"
}

# prepare DIR PORT...: writes the node's config and formats its data, and sets
# dir to DIR as an absolute path.
prepare() {
  dir=${1:?DIR}
  local port=${2:?PORT} controller=${3:-}
  shift 2
  if [[ $controller =~ ^[0-9]+$ ]]; then shift; else controller=$((port + 1)); fi
  setup
  mkdir -p "$dir"
  dir=$(cd "$dir" && pwd)
  {
    cat "$here/server.properties"
    echo "listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller"
    echo "advertised.listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller"
    echo "controller.listener.names=CONTROLLER"
    echo "inter.broker.listener.name=PLAINTEXT"
    echo "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT"
    echo "controller.quorum.bootstrap.servers=127.0.0.1:$controller"
    echo "log.dirs=$dir/data"
    local setting
    for setting in "$@"; do echo "$setting"; done
  } >"$dir/server.properties"
  if [ ! -e "$dir/data/meta.properties" ]; then
    local quorum=(--standalone)
    [[ " $* " != *" controller.quorum.voters="* ]] || quorum=()
    (run -Xmx256M kafka.tools.StorageTool format "${quorum[@]}" \
      -t "${KAFKA_CLUSTER_ID:-$(head -c 16 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=')}" -c "$dir/server.properties") >"$dir/format.log" 2>&1 ||
      { cat "$dir/format.log" >&2; fail "could not format $dir/data"; }
  fi
}

serve() {
  local dir
  prepare "$@"
  run "-Xmx1G -Xms1G" kafka.Kafka "$dir/server.properties"
}

start() {
  local dir
  prepare "$@"
  (run "-Xmx1G -Xms1G" kafka.Kafka "$dir/server.properties") >"$dir/server.log" 2>&1 </dev/null &
  local pid=$!
  echo "$pid" >"$dir/pid"
  for _ in $(seq 600); do
    if grep -q 'Kafka Server started' "$dir/server.log"; then echo "$pid"; return; fi
    kill -0 "$pid" 2>/dev/null || { tail -n 20 "$dir/server.log" >&2; fail "the broker ended, see $dir/server.log"; }
    sleep 0.1
  done
  kill "$pid" 2>/dev/null || true
  fail "the broker does not serve after a minute, see $dir/server.log"
}

stop() {
  local dir=${1:?DIR} pid
  [ -e "$dir/pid" ] || fail "no broker was started in $dir"
  pid=$(cat "$dir/pid")
  kill "$pid" 2>/dev/null || true
  for _ in $(seq 300); do
    kill -0 "$pid" 2>/dev/null || { rm -f "$dir/pid"; return; }
    sleep 0.1
  done
  kill -9 "$pid" 2>/dev/null || true
  rm -f "$dir/pid"
}

case ${1:-} in
  setup) setup ;;
  start) shift; start "$@" ;;
  serve) shift; serve "$@" ;;
  stop) shift; stop "$@" ;;
  tool) shift; setup; run -Xmx512M "$@" ;;
  version) version ;;
  classpath) setup; echo "$cache/jars/*" ;;
  *) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac
