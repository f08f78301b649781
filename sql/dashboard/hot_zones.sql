-- The zones with most requests in the newest five minutes.
-- Answers: where should drivers go now?
CREATE PANEL hot_zones
WITH (title = 'Hot zones', about = 'the newest five minutes, by rank', chart = 'bar', x = 'zone', y = 'requests', series = 'city',
      unit = 'requests', position = 3)
AS SELECT zone, city, requests, completions, surge
FROM gold.hot_zones
WHERE requests > 0 AND window_end = (SELECT max(window_end) FROM gold.hot_zones)
ORDER BY requests DESC, city, zone
LIMIT 12;
