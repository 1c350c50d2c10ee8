#!/usr/bin/env bash
# Installs what the tests talk to and is quick when it is there already:
#   PostgreSQL, RabbitMQ, ClickHouse, Chromium and kcat from Debian; Python clients of Kafka and a reader of
#   Parquet, at the versions of requirements.txt, in .cache/venv; kafkajs, at
#   the version of deploy/compat/kafkajs, in .cache/kafkajs; Apache Kafka's
#   programs with Java and Maven, in .cache/kafka; Hadoop's HDFS in .cache/hadoop.
# Runs as root, or as anyone when the packages are installed.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=$here/../../.cache
venv=$cache/venv
pins=$here/requirements.txt

# System Python: a venv made with it can be made again on any Debian.
python=/usr/bin/python3

missing=()
command -v kcat >/dev/null || missing+=(kcat)
command -v chromium >/dev/null || missing+=(chromium)
{ [ -x "$python" ] && "$python" -c 'import venv, ensurepip' 2>/dev/null; } || missing+=(python3 python3-venv)
command -v node >/dev/null || missing+=(nodejs)
command -v npm >/dev/null || missing+=(npm)
{ command -v ip && command -v unshare; } >/dev/null || missing+=(iproute2 util-linux)

if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "setup: the tests need ${missing[*]}; install them, or run make test as root on Debian" >&2
    exit 1
  fi
  echo "setup: installing ${missing[*]}"
  log=$(mktemp)
  trap 'rm -f "$log"' EXIT
  export DEBIAN_FRONTEND=noninteractive
  if ! { apt-get update && apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    echo "setup: apt-get could not install ${missing[*]}" >&2
    exit 1
  fi
fi

# The copy of the pins is made last, so that a half-made venv is made again.
if ! cmp -s "$pins" "$venv/pins.txt"; then
  echo "setup: making a Python environment in .cache/venv"
  rm -rf "$venv"
  "$python" -m venv "$venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary :all: -r "$pins"
  cp "$pins" "$venv/pins.txt"
fi

js=$here/../compat/kafkajs
if ! cmp -s "$js/package-lock.json" "$cache/kafkajs/pins.json"; then
  echo "setup: installing kafkajs in .cache/kafkajs"
  rm -rf "$cache/kafkajs"
  mkdir -p "$cache/kafkajs"
  cp "$js/package.json" "$js/package-lock.json" "$cache/kafkajs/"
  npm ci --prefix "$cache/kafkajs" --silent --no-audit --no-fund --ignore-scripts
  cp "$js/package-lock.json" "$cache/kafkajs/pins.json"
fi

# Apache Kafka's own programs, with Java and Maven.
"$here/../kafka/kafka.sh" setup

# HDFS, for the lake.
"$here/../hadoop/hadoop.sh" setup

# The servers that connectors are tested against.
"$here/../services/services.sh" install
