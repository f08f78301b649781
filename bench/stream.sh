#!/usr/bin/env bash
# Streams from Apache Kafka with default settings, beside a plain reader of the same topic.
#
#   bench/stream.sh WATERSHED BIDS [EVENTS=5000000] [RUNS=3] [OTHER]
#
# WATERSHED is the binary, BIDS the example `bids` of ingest/ (its `read` is the plain reader: rdkafka's poll, arrow-json, nothing else).
# With librdkafka's defaults that reader sleeps for a second whenever its queue was full, so `plain` has the one setting that avoids it
# (fetch.queue.backoff.ms, as Watershed has), and `defaults` is shown beside it. All read the topic from its start, one after another, in each
# of RUNS rounds, so that a drift of the machine meets all alike; the last lines are medians of the ratios to `plain` in a round. With OTHER,
# another Watershed reads after the first, and its times over those of the first are shown as well. Then 20,000
# events a second for a minute: how long from Kafka's timestamp of a row until its commit is in the table's log.
set -euo pipefail
watershed=$(readlink -f "$1")
bids=$(readlink -f "$2")
events=${3:-5000000}
runs=${4:-3}
other=${5:+$(readlink -f "$5")}
here=$(cd "$(dirname "$0")" && pwd)
source "$here/kafka.sh"
folder=$(mktemp -d)
trap 'stop_kafka; kill $(jobs -p) 2>/dev/null || true; wait; rm -rf "$folder"' EXIT
start_kafka "$folder/kafka"
printf 'load before: %s\n' "$(cut -d ' ' -f 1-3 /proc/loadavg)"
"$bids" produce "$KAFKA_BOOTSTRAP" bids "$events"

# Prints seconds, CPU seconds and peak MiB of a command.
measure() {
    local out=$folder/measure.$RANDOM peak=0 now
    TIMEFORMAT='%R %U %S'
    { time "$@" >"$out.stdout" 2>"$out.stderr" || touch "$out.failed"; } 2>"$out.time" &
    local waiting=$!
    while kill -0 "$waiting" 2>/dev/null; do
        for pid in $(pgrep -P "$waiting" || true); do
            now=$(awk '/^VmHWM/ { print $2 }' "/proc/$pid/status" 2>/dev/null || true)
            [ "${now:-0}" -le "$peak" ] || peak=$now
        done
        sleep 0.05
    done
    wait "$waiting" || true
    [ ! -e "$out.failed" ] || { cat "$out.stderr" >&2; exit 1; }
    awk -v peak="$peak" '{ printf "%s %.2f %.0f\n", $1, $2 + $3, peak / 1024 }' "$out.time"
}

for round in $(seq "$runs"); do
    for what in defaults plain all_fields ${other:+all_fields/other} by_auction ${other:+by_auction/other}; do
        warehouse=$folder/warehouse-$round-${what/\//-}
        if [ "$what" = defaults ]; then
            result=$(measure "$bids" read "$KAFKA_BOOTSTRAP" bids "$events")
        elif [ "$what" = plain ]; then
            result=$(measure "$bids" read "$KAFKA_BOOTSTRAP" bids "$events" fetch.queue.backoff.ms=5)
        else
            binary=$watershed
            [ "$what" = "${what%/other}" ] || binary=$other
            "$binary" apply "$here/bids" --yes --warehouse "$warehouse" >/dev/null
            result=$(measure "$binary" stream "bench.${what%/other}" --bootstrap "$KAFKA_BOOTSTRAP" --warehouse "$warehouse" --until-caught-up --drain)
        fi
        echo "$round $what $result" | tee -a "$folder/results" |
            awk -v events="$events" '{ printf "round %d  %-16s %6.2f s  %9.0f events/s  %9.0f events/CPU-s  peak %4d MiB\n", $1, $2, $3, events / $3, events / $4, $5 }'
    done
done

awk '
    { seconds[$1, $2] = $3; cpu[$1, $2] = $4; if ($1 > rounds) rounds = $1 }
    function median(values, n,   i, j, t) {
        for (i = 1; i <= n; i++) for (j = i + 1; j <= n; j++) if (values[j] < values[i]) { t = values[i]; values[i] = values[j]; values[j] = t }
        return values[int((n + 1) / 2)]
    }
    END {
        split("all_fields by_auction", tables, " ")
        for (k = 1; k <= 2; k++) {
            for (r = 1; r <= rounds; r++) { wall[r] = seconds[r, "plain"] / seconds[r, tables[k]]; work[r] = cpu[r, "plain"] / cpu[r, tables[k]] }
            printf "%-12s over plain reader: %.2f by wall time, %.2f by CPU time (median of %d)\n", tables[k], median(wall, rounds), median(work, rounds), rounds
            if (!((1, tables[k] "/other") in seconds)) continue
            for (r = 1; r <= rounds; r++) {
                wall[r] = seconds[r, tables[k] "/other"] / seconds[r, tables[k]]
                work[r] = cpu[r, tables[k] "/other"] / cpu[r, tables[k]]
            }
            printf "%-12s the other\047s time over ours: %.2f by wall time, %.2f by CPU time\n", tables[k], median(wall, rounds), median(work, rounds)
        }
    }' "$folder/results"

warehouse=$folder/warehouse-latency
"$watershed" apply "$here/bids" --yes --warehouse "$warehouse" >/dev/null
"$bids" produce "$KAFKA_BOOTSTRAP" bids-now 1 >/dev/null
"$watershed" stream bench.now --bootstrap "$KAFKA_BOOTSTRAP" --warehouse "$warehouse" >/dev/null 2>"$folder/latency.log" &
pipeline=$!
sleep 3
"$bids" produce "$KAFKA_BOOTSTRAP" bids-now 1200000 20000
sleep 3
kill -INT "$pipeline"
wait "$pipeline" || { cat "$folder/latency.log" >&2; exit 1; }
"$tools/python/bin/python" "$here/latency.py" "$warehouse/bench/now"
