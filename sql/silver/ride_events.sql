-- Ride events with each event_id once: events sent again within 10 minutes are left out.
-- Answers: what happened to each trip, counted once?
CREATE STREAMING TABLE silver.ride_events
PARTITIONED BY (day)
AS SELECT *, CAST(event_time AS DATE) AS day
FROM DEDUPLICATE(TABLE ride_events PARTITION BY event_id, DESCRIPTOR(event_time), INTERVAL '10 minutes');
