#!/usr/bin/env bash
# Twenty queries over the demo's tables, beside DuckDB on the same files.
#
#   bench/query.sh WATERSHED [EVENTS=10000000] [RUNS=5] [OTHER]
#
# OTHER is another Watershed, which then takes the place of DuckDB.
#
# The tables are made once: a day and a half of a small city through the embedded broker and pipelines of sql/, in
# $WATERSHED_CACHE/bench. Then bench/queries/compare.py asks both.
set -euo pipefail
watershed=$(readlink -f "$1")
events=${2:-10000000}
runs=${3:-5}
other=${4:+$(readlink -f "$4")}
here=$(cd "$(dirname "$0")" && pwd)
cache=${WATERSHED_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/watershed}
warehouse=$cache/bench/query-$events
# shellcheck source=bench/broker.sh
. "$here/broker.sh"

if [ ! -d "$warehouse" ]; then
    # A run that was cut short leaves nothing that looks whole.
    part=$warehouse.part
    rm -rf "$part"
    mkdir -p "$part"
    trap 'stop_broker; rm -rf "$part"' EXIT
    echo "making the tables in $warehouse"
    start_broker "$watershed" "$part/broker" 32GiB
    "$watershed" simulate --bootstrap "$BROKER_BOOTSTRAP" --rate max --events "$events" --drivers 1000 --warm-up 45m --seed 1 | tail -n 1
    "$watershed" apply "$here/../sql" --yes --warehouse "$part/warehouse" >/dev/null
    # Those that the queries name.
    tables="bronze.driver_locations bronze.clickstream bronze.ride_events bronze.payments silver.ride_events"
    # shellcheck disable=SC2086 # a list of words on purpose
    "$watershed" stream $tables --bootstrap "$BROKER_BOOTSTRAP" --warehouse "$part/warehouse" --until-caught-up --drain >"$part/stream.log" 2>&1 ||
        { tail "$part/stream.log"; exit 1; }
    stop_broker
    mv "$part/warehouse" "$warehouse"
    rm -rf "$part"
    trap - EXIT
fi
"$cache/tools/python/bin/python" "$here/queries/compare.py" "$watershed" "$warehouse" --runs "$runs" ${other:+--against "$other"}
