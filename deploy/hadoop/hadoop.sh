#!/usr/bin/env bash
# HDFS at the version of pom.xml, for tests. Everything lands in .cache/hadoop;
# the first run fetches it with Maven.
#
#   hadoop.sh setup                        install Java, Maven and the jars if they are missing
#   hadoop.sh run DIR RPC_PORT WEB_PORT    a namenode and a datanode in one process, in the foreground,
#                                          with their data in DIR; prints "HDFS serves" when it does
#   hadoop.sh version                      print Hadoop's version
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=$(cd "$here/../.." && pwd)/.cache/hadoop
java=${JAVA_HOME:+$JAVA_HOME/bin/}java

fail() { echo "hadoop.sh: $*" >&2; exit 1; }

version() { sed -n 's:.*<hadoop.version>\(.*\)</hadoop.version>.*:\1:p' "$here/pom.xml"; }

setup() {
  mkdir -p "$cache"
  exec 9>"$cache/.lock"
  flock 9
  # The copies are made last, so that a half-made cache is made again.
  if cmp -s "$here/pom.xml" "$cache/pom.xml" && cmp -s "$here/Hdfs.java" "$cache/Hdfs.java"; then return; fi
  # Java and Maven come with Kafka.
  "$here/../kafka/kafka.sh" setup
  echo "hadoop.sh: fetching Hadoop $(version)" >&2
  rm -rf "$cache/jars" "$cache/classes"
  mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies -DoutputDirectory="$cache/jars" >&2 || fail "Maven could not fetch Hadoop"
  "${java}c" -cp "$cache/jars/*" -d "$cache/classes" "$here/Hdfs.java" || fail "Hdfs.java does not compile"
  cp "$here/pom.xml" "$here/Hdfs.java" "$cache/"
}

run() {
  setup
  exec 9>&-
  exec "$java" ${HADOOP_HEAP_OPTS:--Xmx512M} -XX:+UseSerialGC -Djava.awt.headless=true -Djava.net.preferIPv4Stack=true \
    -Dlog4j.configuration="file:$here/log4j.properties" -cp "$cache/classes:$cache/jars/*" Hdfs "$@"
}

case ${1:-} in
  setup) setup ;;
  run) shift; run "$@" ;;
  version) version ;;
  *) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac
