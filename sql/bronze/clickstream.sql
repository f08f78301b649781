-- All readable page, app and ad events as they came, duplicates and late ones included, with their place in Kafka.
-- Answers: what did a visitor do, step by step?
CREATE STREAMING TABLE bronze.clickstream
PARTITIONED BY (day)
AS SELECT *, CAST(event_time AS DATE) AS day
FROM clickstream;
