-- Demand by city and zone over the last 5 minutes, again every minute; surge is the highest multiplier asked for.
-- Answers: where are rides wanted now, and where should drivers go?
CREATE STREAMING TABLE gold.hot_zones
AS SELECT window_start, window_end, city, zone,
          count(*) AS events,
          count(*) FILTER (WHERE event_type = 'requested') AS requests,
          count(*) FILTER (WHERE event_type = 'completed') AS completions,
          count(*) FILTER (WHERE event_type = 'cancelled') AS cancellations,
          sum(fare) AS revenue,
          max(surge_multiplier) AS surge
FROM HOP(TABLE ride_events, DESCRIPTOR(event_time), INTERVAL '1 minute', INTERVAL '5 minutes')
GROUP BY window_start, window_end, city, zone;
