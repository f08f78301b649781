-- All readable payment events as they came, duplicates and late ones included, with their place in Kafka.
-- Answers: what did the payment provider tell us, word for word?
CREATE STREAMING TABLE bronze.payments
PARTITIONED BY (day)
AS SELECT *, CAST(event_time AS DATE) AS day
FROM payments;
