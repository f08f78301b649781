-- All readable ride events as they came, duplicates and late ones included, with their place in Kafka.
-- Answers: what exactly was said, when did it reach Kafka, and has every offset arrived?
CREATE STREAMING TABLE bronze.ride_events (
    CONSTRAINT reported_promptly EXPECT (kafka_time < event_time + INTERVAL '30 seconds')
)
PARTITIONED BY (day)
AS SELECT *, CAST(event_time AS DATE) AS day
FROM ride_events;
