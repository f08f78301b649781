-- Requests of the newest five minutes by zone; a zone is drawn where its rides of the last hour began, on average.
-- Answers: how does demand lie over each city?
CREATE PANEL hot_zones_map
WITH (title = 'Hot zones on the map', about = 'requests in the newest five minutes; the busiest zone is named', chart = 'map',
      x = 'lon', y = 'lat', series = 'city', size = 'requests', label = 'zone', unit = 'requests', wide = true, position = 5)
AS WITH newest AS (SELECT max(window_end) AS at FROM gold.hot_zones),
     places AS (
         SELECT city, zone, avg(get_field(start_location, 'lat')) AS lat, avg(get_field(start_location, 'lon')) AS lon
         FROM silver.ride_events
         WHERE event_type = 'requested' AND event_time > (SELECT at FROM newest) - INTERVAL '1 hour'
         GROUP BY city, zone)
SELECT places.city, places.zone, places.lat, places.lon, coalesce(zones.requests, 0) AS requests
FROM places
LEFT JOIN (SELECT city, zone, requests FROM gold.hot_zones WHERE window_end = (SELECT at FROM newest)) AS zones
  ON zones.city = places.city AND zones.zone = places.zone
WHERE places.lat IS NOT NULL AND places.lon IS NOT NULL
ORDER BY places.city, requests DESC, places.zone;
