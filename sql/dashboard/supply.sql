-- Drivers who wait for a ride, by city and minute; the last two hours there are.
-- Answers: is there somebody to drive where rides are asked for?
CREATE PANEL supply
WITH (title = 'Supply', about = 'who waits for a ride, by city', chart = 'line', x = 'minute', y = 'drivers', series = 'city',
      unit = 'drivers', position = 2)
AS SELECT window_start AS minute, city, drivers
FROM gold.driver_supply
WHERE state = 'available' AND window_start > (SELECT max(window_start) FROM gold.driver_supply) - INTERVAL '2 hours'
ORDER BY minute, city;
