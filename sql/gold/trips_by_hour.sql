-- Completed trips by city and hour: how many, how long (seconds), how far (metres), and what they brought in, in the city's currency.
-- Answers: when are the busy hours of each city?
CREATE MATERIALIZED VIEW gold.trips_by_hour
TRIGGER ON UPDATE AT MOST EVERY 30 SECONDS
AS SELECT city,
          date_trunc('hour', event_time) AS hour,
          count(*) AS trips,
          count(DISTINCT driver_id) AS drivers,
          avg(duration) AS duration,
          avg(distance) AS distance,
          avg(trip_wait_time) AS wait_time,
          sum(fare) AS revenue
FROM silver.ride_events
WHERE event_type = 'completed'
GROUP BY city, date_trunc('hour', event_time);
