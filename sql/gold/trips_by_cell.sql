-- Completed trips by city and S2 cell of the pick-up (level 13: about 1.2 km wide), with the middle of their pick-ups for a map.
-- Answers: where do trips begin, and what does a trip from there bring in?
CREATE MATERIALIZED VIEW gold.trips_by_cell
TRIGGER ON UPDATE AT MOST EVERY 30 SECONDS
AS SELECT city,
          s2_cell(start_location['lat'], start_location['lon'], 13) AS cell,
          count(*) AS trips,
          avg(start_location['lat']) AS lat,
          avg(start_location['lon']) AS lon,
          sum(fare) AS revenue
FROM silver.ride_events
WHERE event_type = 'completed'
GROUP BY city, s2_cell(start_location['lat'], start_location['lon'], 13);
