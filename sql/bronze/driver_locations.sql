-- All readable driver locations as they came, duplicates and late ones included, with their place in Kafka.
-- Answers: where was a driver at any moment, to replay a trip or to train a model?
CREATE STREAMING TABLE bronze.driver_locations
PARTITIONED BY (day)
AS SELECT *, CAST(event_time AS DATE) AS day
FROM driver_locations;
