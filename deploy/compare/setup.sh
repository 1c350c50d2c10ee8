#!/usr/bin/env bash
# Makes what `make compare` needs, and is quick when it is there already:
# Apache Kafka (deploy/kafka/kafka.sh), and librdkafka's own performance tool,
# built into .cache/compare from the source that Debian's librdkafka-dev ships.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=$(cd "$here/../.." && pwd)/.cache/compare
"$here/../kafka/kafka.sh" setup
[ -x "$cache/rdkafka_performance" ] && exit
mkdir -p "$cache"
if ! { command -v gcc && command -v python3 && [ -e /usr/include/librdkafka/rdkafka.h ]; } >/dev/null; then
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "compare: needs gcc, python3 and librdkafka-dev; install them, or run as root on Debian" >&2
    exit 1
  fi
  echo "compare: installing gcc and librdkafka-dev"
  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends gcc libc6-dev python3 librdkafka-dev; } >"$cache/apt.log" 2>&1 ||
    { tail -n 20 "$cache/apt.log" >&2; exit 1; }
fi
# Small images leave out documentation, and the tool's source is an example.
source=/usr/share/doc/librdkafka-dev/examples/rdkafka_performance.c
if [ ! -e "$source" ]; then
  (cd "$cache" && apt-get download librdkafka-dev >/dev/null && dpkg -x librdkafka-dev_*.deb unpacked)
  source=$cache/unpacked$source
fi
# The tool includes ../src/rd.h: the shim takes the place of that folder.
mkdir -p "$cache/examples" "$cache/src"
cp "$source" "$cache/examples/"
cp "$here"/shim/*.h "$cache/src/"
gcc -O2 -w -I "$cache/src" -I /usr/include/librdkafka "$cache/examples/rdkafka_performance.c" -o "$cache/rdkafka_performance" -lrdkafka -lpthread -lm
