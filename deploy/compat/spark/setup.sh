#!/usr/bin/env bash
# Puts Spark for Python into .cache/spark, with the jars that it lacks to read
# and write Kafka; prints nothing when they are there already.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=$here/../../../.cache/spark

# The copy of the pins is made last, so that a half-made cache is made again.
if cat "$here/requirements.txt" "$here/pom.xml" | cmp -s - "$cache/pins"; then exit; fi
rm -rf "$cache"
/usr/bin/python3 -m venv "$cache/venv"
"$cache/venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$here/requirements.txt"
mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$cache/all"
mkdir "$cache/jars"
mv "$cache"/all/{spark-sql-kafka,spark-token-provider-kafka,kafka-clients,commons-pool2}*.jar "$cache/jars"
rm -r "$cache/all"
cat "$here/requirements.txt" "$here/pom.xml" >"$cache/pins"
