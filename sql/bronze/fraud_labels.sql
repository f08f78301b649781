-- All readable fraud labels as they came, duplicates and late ones included, with their place in Kafka.
-- Answers: which payments and locations were fraud, what kind, and in which episode?
CREATE STREAMING TABLE bronze.fraud_labels
PARTITIONED BY (day)
AS SELECT *, CAST(event_time AS DATE) AS day
FROM fraud_labels;
