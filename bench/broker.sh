# Sourced by benchmarks: the embedded broker in a process of its own.
#
#   start_broker WATERSHED FOLDER RETENTION_BYTES    sets BROKER_BOOTSTRAP and BROKER_PID; data and log lie in FOLDER
#   stop_broker

start_broker() {
    local watershed=$1 folder=$2 retention=$3
    mkdir -p "$folder"
    "$watershed" broker --dir "$folder/data" --port 0 --retention-bytes "$retention" >"$folder/broker.log" 2>&1 &
    BROKER_PID=$!
    for _ in $(seq 100); do
        BROKER_BOOTSTRAP=$(grep -o '127\.0\.0\.1:[0-9]*' "$folder/broker.log" | head -n 1 || true)
        [ -z "$BROKER_BOOTSTRAP" ] || return 0
        sleep 0.1
    done
    echo "the embedded broker did not start within 10 s:" >&2
    cat "$folder/broker.log" >&2
    exit 1
}

stop_broker() {
    [ -n "${BROKER_PID:-}" ] || return 0
    kill "$BROKER_PID" 2>/dev/null || true
    wait "$BROKER_PID" || true
    BROKER_PID=
}
