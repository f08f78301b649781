-- Ride events with each event_id once: events sent again within 10 minutes are left out.
-- Answers: what happened to each trip, counted once?
CREATE STREAMING TABLE silver.ride_events (
    CONSTRAINT completed_has_fare EXPECT (event_type <> 'completed' OR fare >= 0) ON VIOLATION QUARANTINE
)
PARTITIONED BY (day)
AS SELECT *, CAST(event_time AS DATE) AS day
FROM DEDUPLICATE(TABLE ride_events PARTITION BY event_id, DESCRIPTOR(event_time), INTERVAL '10 minutes');
