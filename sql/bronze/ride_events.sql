-- All readable ride events as they came, duplicates and late ones included, with their place in Kafka.
-- Answers: what exactly was said, when did it reach Kafka, and has every offset arrived?
CREATE STREAMING TABLE bronze.ride_events
PARTITIONED BY (day)
AS SELECT *, CAST(event_time AS DATE) AS day
FROM ride_events;
