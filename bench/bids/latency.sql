-- Bids with when they came to Kafka: the input of the latency part of `bench/stream.sh`.
CREATE SOURCE bids_now (
    auction   BIGINT,
    price     BIGINT,
    date_time TIMESTAMP NOT NULL,
    kafka_time TIMESTAMP METADATA FROM 'timestamp'
) WITH (connector = 'kafka', topic = 'bids-now', format = 'json');

CREATE STREAMING TABLE bench.now
WITH (commit_interval = '1 second')
AS SELECT auction, price, kafka_time FROM bids_now;
