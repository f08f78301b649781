#!/usr/bin/env bash
# How fast one pipeline reads a topic that is already full: a pass-through and a one-minute aggregate over driver locations.
#
#   bench/throughput.sh BINARY [EVENTS]
#
# Everything runs on this machine: the embedded broker in a process of its own, then one pipeline after the other, each until it has
# caught up and committed. Three runs, each over a new warehouse; all are printed, compare the medians. Prints what else kept the machine busy.
set -euo pipefail
binary=$(readlink -f "$1")
events=${2:-3000000}
here=$(cd "$(dirname "$0")" && pwd)
project=$here/../sql
folder=$(mktemp -d)
# shellcheck source=bench/broker.sh
. "$here/broker.sh"
trap 'stop_broker; rm -rf "$folder"' EXIT
cd "$folder"

start_broker "$binary" "$folder/broker" 8GiB
"$binary" simulate --bootstrap "$BROKER_BOOTSTRAP" --rate max --events "$events" | tail -n 1
printf 'load before: %s\n' "$(cut -d ' ' -f 1-3 /proc/loadavg)"

for run in 1 2 3; do
    for table in bronze.driver_locations gold.driver_supply; do
        warehouse=$folder/warehouse-$run-$table
        "$binary" apply "$project" --yes --warehouse "$warehouse" >/dev/null
        started=$(date +%s.%N)
        "$binary" stream "$table" --bootstrap "$BROKER_BOOTSTRAP" --warehouse "$warehouse" --until-caught-up >/dev/null 2>"$folder/stream.log" &
        pid=$!
        peak=0
        while kill -0 "$pid" 2>/dev/null; do
            now=$(awk '/^VmHWM/ {print $2}' "/proc/$pid/status" 2>/dev/null || true)
            [ "${now:-0}" -le "$peak" ] || peak=$now
            sleep 0.02
        done
        wait "$pid" || { cat "$folder/stream.log"; exit 1; }
        ended=$(date +%s.%N)
        rows=$("$binary" shell --warehouse "$warehouse" --output csv -c "SELECT rows_in FROM system.pipelines WHERE pipeline = '$table'" | tail -n 1)
        awk -v rows="$rows" -v from="$started" -v to="$ended" -v table="$table" -v peak="$peak" -v run="$run" \
            'BEGIN { printf "run %d  %-24s %9d rows  %6.2f s  %9.0f rows/s  peak %4.0f MiB\n", run, table, rows, to - from, rows / (to - from), peak / 1024 }'
    done
done
