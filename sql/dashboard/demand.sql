-- Rides asked for in each minute, by city; the last two hours there are.
-- Answers: where is demand rising, and where is it falling?
CREATE PANEL demand
WITH (title = 'Demand', about = 'rides asked for, by city', chart = 'line', x = 'minute', y = 'requests', series = 'city',
      unit = 'rides a minute', position = 1)
AS SELECT window_start AS minute, city, requests
FROM gold.city_demand
WHERE window_start > (SELECT max(window_start) FROM gold.city_demand) - INTERVAL '2 hours'
ORDER BY minute, city;
