-- Driver locations that cannot be true, with how likely the driver lies about its place (score, 0 to 1) and why (reasons). Only those that
-- score above 0: nine in ten of all events are locations, and nearly all of them are honest.
-- A row comes once the watermark of driver locations has passed its time: the delay that the source declares (10 s) is the latency of a score.
-- Answers: which drivers spoof their GPS, where and when?
CREATE STREAMING TABLE gold.driver_fraud_scores
AS SELECT score_id, event_id, event_time, driver_id, city, state, trip_id, lat, lon, accuracy,
          CASE WHEN jumps_1m >= 3 THEN 0.9 WHEN jumps_1m = 2 THEN 0.7 ELSE 0.5 END AS score,
          'gps_spoofing' AS suspected,
          CASE WHEN jumps_1m >= 2 THEN 'implied_speed, jumps' ELSE 'implied_speed' END AS reasons,
          moved_m, speed_m_s, jumps_1m
FROM (
    SELECT *, count(*) FILTER (WHERE jump) OVER (PARTITION BY driver_id ORDER BY event_time
                                                 RANGE BETWEEN INTERVAL '1 minute' PRECEDING AND CURRENT ROW) AS jumps_1m
    FROM (
        -- Faster than 252 km/h over more than a kilometre; a receiver that knows it is off by much has not lied.
        SELECT *, coalesce(moved_m > 1000 AND speed_m_s > 70 AND accuracy <= 50, false) AS jump
        FROM (
            SELECT 'driver-locations-' || kafka_partition || '-' || kafka_offset AS score_id,
                   event_id, event_time, driver_id, city, state, trip_id, lat, lon, accuracy,
                   distance_m(lat, lon, last_value(lat) OVER before, last_value(lon) OVER before) AS moved_m,
                   distance_m(lat, lon, last_value(lat) OVER before, last_value(lon) OVER before)
                       / ((CAST(event_time AS BIGINT) - CAST(last_value(event_time) OVER before AS BIGINT)) / 1000000.0) AS speed_m_s
            -- A location that Kafka was sent twice has the same time both times.
            FROM DEDUPLICATE(TABLE (
                     SELECT event_id, event_time, driver_id, city, state, trip_id, location['lat'] AS lat, location['lon'] AS lon, accuracy,
                            kafka_partition, kafka_offset
                     FROM driver_locations
                 ) PARTITION BY event_id, DESCRIPTOR(event_time), INTERVAL '1 second')
            WINDOW before AS (PARTITION BY driver_id ORDER BY event_time
                              RANGE BETWEEN INTERVAL '2 minutes' PRECEDING AND INTERVAL '1 microsecond' PRECEDING)
        )
    )
)
WHERE jump;
