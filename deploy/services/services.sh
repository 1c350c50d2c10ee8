#!/usr/bin/env bash
# The systems that connectors bridge to, on this machine, to try examples with.
# Nothing is shared with servers that run already: data, logs and ports are
# those of .cache/services.
#
#   services.sh install [NAME...]   install what is missing, from Debian's packages
#   services.sh start [NAME...]     start them on 127.0.0.1 and print how to connect
#   services.sh status              which of them run
#   services.sh stop [NAME...]      end them; their data stays
#   services.sh clean               end them all and remove their data
#
# NAME is postgres, rabbitmq or clickhouse; none means all of them. Apache Kafka
# has a script of its own, ../kafka/kafka.sh. compose.yaml has the same for those
# who have Docker. install needs root, or the packages.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)/.cache/services
all=(postgres rabbitmq clickhouse)

declare -A port=([postgres]=15432 [rabbitmq]=15672 [clickhouse]=19000)
rabbit_management=15673 clickhouse_http=18123

fail() { echo "services: $*" >&2; exit 1; }

# program NAME: the server's program, or nothing.
program() {
  case $1 in
    postgres) compgen -G '/usr/lib/postgresql/*/bin/postgres' | sort -V | tail -n 1 ;;
    rabbitmq) compgen -G '/usr/lib/rabbitmq/lib/*/sbin/rabbitmq-server' | sort -V | tail -n 1 ;;
    clickhouse) PATH=$PATH:/usr/sbin command -v clickhouse-server ;;
    *) fail "there is no $1; want one of ${all[*]}" ;;
  esac || true
}

package() { [ "$1" = postgres ] && echo postgresql || echo "$1-server"; }

install() {
  local missing=() name
  for name in "$@"; do [ -n "$(program "$name")" ] || missing+=("$(package "$name")"); done
  [ ${#missing[@]} -gt 0 ] || return 0
  { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; } || fail "needs ${missing[*]}; install them, or run as root on Debian"
  echo "services: installing ${missing[*]}" >&2
  local log=/dev/null held=
  log=$(mktemp)
  # Packages must not start servers on their usual ports.
  if [ ! -e /usr/sbin/policy-rc.d ]; then
    held=1
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod +x /usr/sbin/policy-rc.d
  fi
  local status=0
  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 || status=$?
  [ -z "$held" ] || rm -f /usr/sbin/policy-rc.d
  if [ $status -ne 0 ]; then tail -n 20 "$log" >&2; rm -f "$log"; fail "apt-get could not install ${missing[*]}"; fi
  rm -f "$log"
}

running() { [ -s "$root/$1/pid" ] && kill -0 "$(cat "$root/$1/pid")" 2>/dev/null; }

answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# launch NAME COMMAND...: in a session of its own, with the log beside the data.
launch() {
  local name=$1 dir=$root/$1
  shift
  setsid "$@" >"$dir/log" 2>&1 </dev/null &
  echo $! >"$dir/pid"
  for _ in $(seq 600); do
    answers "${port[$name]}" && return
    running "$name" || { tail -n 20 "$dir/log" >&2; fail "$name has ended, see $dir/log"; }
    sleep 0.1
  done
  fail "$name does not answer after a minute, see $dir/log"
}

start_postgres() {
  local dir=$root/postgres as=() bin
  bin=$(dirname "$(program postgres)")
  if [ "$(id -u)" = 0 ]; then # it refuses to run as root
    as=(setpriv --reuid postgres --regid postgres --clear-groups)
    chown -R postgres "$dir"
  fi
  [ -e "$dir/data/PG_VERSION" ] || "${as[@]}" "$bin/initdb" -D "$dir/data" -U postgres -A trust -E UTF8 --no-locale >/dev/null
  launch postgres "${as[@]}" "$bin/postgres" -D "$dir/data" -c listen_addresses=127.0.0.1 -c "port=${port[postgres]}" \
    -c unix_socket_directories= -c wal_level=logical
}

start_rabbitmq() {
  local dir=$root/rabbitmq
  echo '[rabbitmq_management].' >"$dir/plugins"
  printf '%s\n' "listeners.tcp.1 = 127.0.0.1:${port[rabbitmq]}" "management.tcp.ip = 127.0.0.1" \
    "management.tcp.port = $rabbit_management" "log.console = true" "log.file = false" >"$dir/rabbitmq.conf"
  launch rabbitmq env HOME="$dir" RABBITMQ_NODENAME=services@localhost RABBITMQ_DIST_PORT=15674 ERL_EPMD_PORT=15675 \
    RABBITMQ_MNESIA_BASE="$dir/mnesia" RABBITMQ_LOG_BASE="$dir/logs" RABBITMQ_CONFIG_FILE="$dir/rabbitmq.conf" \
    RABBITMQ_ENABLED_PLUGINS_FILE="$dir/plugins" RABBITMQ_PID_FILE="$dir/rabbit.pid" \
    sh -c 'epmd -address 127.0.0.1 & exec "$1"' sh "$(program rabbitmq)"
}

start_clickhouse() {
  local dir=$root/clickhouse
  cat >"$dir/config.xml" <<EOF
<yandex>
<logger><level>warning</level><console>1</console></logger>
<listen_host>127.0.0.1</listen_host><tcp_port>${port[clickhouse]}</tcp_port><http_port>$clickhouse_http</http_port>
<path>$dir/data/</path><tmp_path>$dir/tmp/</tmp_path><user_files_path>$dir/files/</user_files_path>
<mark_cache_size>268435456</mark_cache_size><users_config>$dir/users.xml</users_config>
<default_profile>default</default_profile><default_database>default</default_database><timezone>UTC</timezone>
</yandex>
EOF
  cat >"$dir/users.xml" <<EOF
<yandex><profiles><default/></profiles><quotas><default/></quotas><users><default>
<password></password><networks><ip>127.0.0.1</ip></networks><profile>default</profile><quota>default</quota>
</default></users></yandex>
EOF
  launch clickhouse "$(program clickhouse)" --config-file="$dir/config.xml"
}

address() {
  case $1 in
    postgres) echo "postgres://postgres@127.0.0.1:${port[postgres]}/postgres?sslmode=disable" ;;
    rabbitmq) echo "amqp://guest:guest@127.0.0.1:${port[rabbitmq]}/  (management http://127.0.0.1:$rabbit_management)" ;;
    clickhouse) echo "clickhouse://default@127.0.0.1:${port[clickhouse]}/default  (HTTP http://127.0.0.1:$clickhouse_http)" ;;
  esac
}

start() {
  local name
  install "$@"
  for name in "$@"; do
    mkdir -p "$root/$name"
    running "$name" || "start_$name"
    printf '%-10s  %s\n' "$name" "$(address "$name")"
  done
}

stop() {
  local name pid
  for name in "$@"; do
    running "$name" || continue
    pid=$(cat "$root/$name/pid")
    kill "$pid"
    for _ in $(seq 300); do
      running "$name" || break
      sleep 0.1
    done
    kill -KILL -- "-$pid" 2>/dev/null || true # what it left behind
    rm -f "$root/$name/pid"
    echo "$name  stopped"
  done
}

status() {
  local name
  for name in "${all[@]}"; do
    if running "$name"; then printf '%-10s  %s\n' "$name" "$(address "$name")"; else printf '%-10s  stopped\n' "$name"; fi
  done
}

verb=${1:-}
[ $# -eq 0 ] || shift
names=("$@")
[ ${#names[@]} -gt 0 ] || names=("${all[@]}")
for name in "${names[@]}"; do program "$name" >/dev/null; done
case $verb in
  install | start | stop) "$verb" "${names[@]}" ;;
  status) status ;;
  clean) stop "${all[@]}"; rm -rf "$root" ;;
  *) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac
