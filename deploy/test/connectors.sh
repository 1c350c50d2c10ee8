#!/usr/bin/env bash
# Runs the failure tests of the connectors in full form, one after the other,
# and shows each one's figures in a line. $1 is a regular expression of the
# tests to run; without it all that have a full form run. What they print
# besides is in .cache/connectors.log.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export ENTREPOT_KILLS="${ENTREPOT_KILLS:-50}" ENTREPOT_TEST_TOOLS=all
packages=(./hub/hubtest ./connectors/...)
tests='^(TestKilled(Source|Query|CDC|Sink|ClickHouseSink|ClickHouseSource|Lake|LakeSource)IsExact|TestKilled(KafkaConnectors|RabbitMQSource|RabbitMQSink|Collector|Webhook|Plugins|SiteHandsItsLoadingOver)'
tests+='|TestFrozenNodeIsFenced|TestTasksAreShared|TestTimeFlushIsExact|TestIdleSlot|TestRowsReadThroughKills|TestPoisonRow|TestPoisonThroughput|TestRefusedLoginLosesNothing|TestStoppedSink'
tests+='|TestCDCLargeTransaction|TestBeyondAnyWindow|TestPushedOut|TestClosingAtRandom)$'
log=.cache/connectors.log
mkdir -p .cache

echo "$(nproc) cores, $(uname -sr), $(date -u +%F)"
if ! go test -count=1 -v -p 1 -parallel 8 -timeout 180m -run "${1:-$tests}" "${packages[@]}" 2>&1 | tee "$log" |
	sed -nuE 's/^ +[a-z0-9_]+\.go:[0-9]+: figures: //p; /^(--- |FAIL|panic:)|SKIPPED/p'; then
	echo "what failed said more in $log" >&2
	exit 1
fi
