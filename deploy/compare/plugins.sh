#!/usr/bin/env bash
# Makes what `make compare-connectors` needs, and is quick when it is there
# already: Apache Kafka with Connect (deploy/kafka/kafka.sh), and the plugins of
# Connect that are the peers, from Maven Central into .cache/compare/plugins.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=$(cd "$here/../.." && pwd)/.cache/compare/plugins
"$here/../kafka/kafka.sh" setup
for plugin in source sink; do
  pom=$here/plugins/$plugin/pom.xml
  # The copy of the pom is made last, so that a half-made folder is made again.
  cmp -s "$pom" "$cache/$plugin.xml" && continue
  echo "compare: fetching Debezium's $plugin"
  rm -rf "${cache:?}/$plugin"
  mkdir -p "$cache"
  mvn -q -B -f "$pom" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$cache/$plugin"
  for source in "$here/plugins/$plugin"/*.java; do
    [ -e "$source" ] || continue
    javac -d "$cache/$plugin.classes" "$source"
    jar -c -f "$cache/$plugin/shim.jar" -C "$cache/$plugin.classes" .
  done
  cp "$pom" "$cache/$plugin.xml"
done
