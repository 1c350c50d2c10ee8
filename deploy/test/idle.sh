#!/usr/bin/env bash
# What 1,000 idle partitions cost: a node of its own with 10 partitions, then
# with 1,010, each with records in it. Prints resident memory once it has
# settled and the processor time over a minute, and fails when 1,000 partitions
# take 100 MB more than 10 do, or 5 % of a core.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
site=idle
. deploy/test/node.sh

fill() { # TOPIC PARTITIONS
  ./entrepot topic create "$1" --partitions "$2" --brokers "$kafka" >/dev/null
  ./entrepot bench produce --topic "$1" --record-size 100 --records $((400 * $2)) --rate $((40 * $2)) --brokers "$kafka" >/dev/null
}
ticks() { awk '{print $14 + $15}' "/proc/$node/stat"; }
# Go looks for garbage at least every two minutes and gives memory back after it.
measure() {
  sleep "${SETTLE:-270}"
  kb=$(awk '/VmRSS/ {print $2}' "/proc/$node/status")
  local before
  before=$(ticks)
  sleep 60
  cpu=$(awk -v t="$(($(ticks) - before))" -v hz="$(getconf CLK_TCK)" 'BEGIN {printf "%.2f", t / hz / 60 * 100}')
}

fill ten 10
measure
small=$kb
echo "10 partitions: $((kb / 1024)) MB resident, $cpu % of a core"
fill thousand 1000
measure
echo "1,010 partitions: $((kb / 1024)) MB resident, $cpu % of a core; 1,000 idle partitions take $(((kb - small) / 1024)) MB"
awk -v mb="$(((kb - small) / 1024))" -v cpu="$cpu" 'BEGIN {exit !(mb < 100 && cpu < 5)}' || { echo "more than 100 MB or 5 % of a core" >&2; exit 1; }
