# Sourced by benchmarks: Apache Kafka (KRaft, one node, default settings otherwise) from the jars that `make test` installs.
#
#   start_kafka FOLDER     sets KAFKA_BOOTSTRAP and KAFKA_PID; data and log lie in FOLDER
#   stop_kafka

tools=${WATERSHED_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/watershed}/tools

start_kafka() {
    local folder=$1 port=${KAFKA_PORT:-29092}
    [ -d "$tools/kafka" ] || { echo "Apache Kafka is not installed; run scripts/setup.sh test" >&2; exit 1; }
    mkdir -p "$folder"
    cat >"$folder/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@localhost:$((port + 1))
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$((port + 1))
advertised.listeners=PLAINTEXT://127.0.0.1:$port
controller.listener.names=CONTROLLER
log.dirs=$folder/data
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
log.retention.ms=-1
PROPERTIES
    java -Xmx1g -cp "$tools/kafka/*" kafka.tools.StorageTool format -t 4L6g3nShT-eMCtK--X86sw -c "$folder/server.properties" >"$folder/format.log" 2>&1
    java -Xmx1g -cp "$tools/kafka/*" kafka.Kafka "$folder/server.properties" >"$folder/kafka.log" 2>&1 &
    KAFKA_PID=$!
    KAFKA_BOOTSTRAP=127.0.0.1:$port
    for _ in $(seq 150); do
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && return
        sleep 0.2
    done
    echo "Kafka did not start: $folder/kafka.log" >&2
    exit 1
}

stop_kafka() {
    [ -z "${KAFKA_PID:-}" ] || kill "$KAFKA_PID" 2>/dev/null || true
}
