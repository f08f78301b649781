-- All completed trips by city, from the hours: refreshed after them.
-- Answers: which cities bring in what, and which hour was the best so far?
CREATE MATERIALIZED VIEW gold.trips_by_city
TRIGGER ON UPDATE AT MOST EVERY 30 SECONDS
AS SELECT city,
          sum(trips) AS trips,
          sum(revenue) AS revenue,
          sum(duration * trips) / sum(trips) AS duration,
          sum(distance * trips) / sum(trips) AS distance,
          max(trips) AS trips_in_best_hour
FROM gold.trips_by_hour
GROUP BY city;
