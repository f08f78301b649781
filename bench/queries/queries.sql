-- What an analyst of the simulated city asks, in SQL that Watershed and DuckDB read alike. A line `-- name: what it asks` opens each query.
-- Every result has an order in which no two rows are equal, or one row, so that answers can be compared. DuckDB has
-- `date_bin` and `to_unixtime` from the runner, as its `time_bucket` and `epoch_us`.

-- count: how many places were reported, and how many of them on a trip?
SELECT count(*) AS places, count(trip_id) AS with_trip FROM bronze.driver_locations;

-- bounds: from when to when, and how far by Kafka's count?
SELECT min(event_time) AS oldest, max(event_time) AS newest, max(kafka_offset) AS offset_max FROM bronze.driver_locations;

-- standing: how much of the time on trips is spent in traffic that does not move?
SELECT count(*) AS slow, avg(CAST(accuracy AS DOUBLE)) AS accuracy FROM bronze.driver_locations WHERE state = 'on_trip' AND speed < 1.0;

-- by_city: what are drivers doing in each city, and how fast are they?
SELECT city, state, count(*) AS places, sum(speed) AS speeds, max(accuracy) AS worst
FROM bronze.driver_locations GROUP BY city, state ORDER BY city, state;

-- by_zone: in which zones do they wait?
SELECT city, zone, count(*) AS waiting, avg(CAST(speed AS DOUBLE)) AS speed
FROM bronze.driver_locations WHERE state = 'available' GROUP BY city, zone ORDER BY waiting DESC, city, zone LIMIT 25;

-- by_trip: which trips took longest, by what was reported on them?
SELECT trip_id, count(*) AS places, min(event_time) AS began, max(event_time) AS ended
FROM bronze.driver_locations WHERE trip_id IS NOT NULL GROUP BY trip_id ORDER BY places DESC, trip_id LIMIT 20;

-- by_driver_hour: how active was each driver in each hour?
SELECT driver_id, date_bin(INTERVAL '1 hour', event_time) AS hour, count(*) AS places, sum(speed) AS speeds
FROM bronze.driver_locations GROUP BY driver_id, date_bin(INTERVAL '1 hour', event_time) ORDER BY driver_id, hour;

-- distinct_drivers: how many drivers and vehicles does each city have?
SELECT city, count(DISTINCT driver_id) AS drivers, count(DISTINCT trip_id) AS trips FROM bronze.driver_locations GROUP BY city ORDER BY city;

-- duplicates: how many events came twice?
SELECT count(*) AS places, count(DISTINCT event_id) AS events FROM bronze.driver_locations;

-- by_minute: how did supply go on Monday, minute by minute?
SELECT date_bin(INTERVAL '1 minute', event_time) AS minute, city, count(*) AS places, count(*) FILTER (WHERE state = 'available') AS free
FROM bronze.driver_locations WHERE day = DATE '2026-01-05'
GROUP BY date_bin(INTERVAL '1 minute', event_time), city ORDER BY minute, city;

-- one_driver: where was one driver within ten minutes?
SELECT event_time, state, location['lat'] AS lat, location['lon'] AS lon, speed, heading, trip_id
FROM bronze.driver_locations
WHERE driver_id = 'drv_000500' AND event_time >= '2026-01-05T21:00:00Z' AND event_time < '2026-01-05T21:10:00Z' AND kafka_offset >= 0
ORDER BY event_time, kafka_partition, kafka_offset;

-- ten_seconds: who was where at a moment?
SELECT driver_id, event_time, city, zone, state FROM bronze.driver_locations
WHERE event_time >= '2026-01-06T08:15:00Z' AND event_time < '2026-01-06T08:15:10Z'
ORDER BY driver_id, event_time, kafka_partition, kafka_offset;

-- fastest: the hundred highest speeds.
SELECT event_id, driver_id, event_time, city, speed, accuracy, kafka_partition, kafka_offset
FROM bronze.driver_locations ORDER BY speed DESC NULLS LAST, kafka_partition, kafka_offset LIMIT 100;

-- grid: the busiest cells of a hundredth of a degree in the centre of New York.
SELECT floor(location['lat'] * 100) AS lat, floor(location['lon'] * 100) AS lon, count(*) AS places
FROM bronze.driver_locations
WHERE location['lat'] BETWEEN 40.70 AND 40.80 AND location['lon'] BETWEEN -74.02 AND -73.93
GROUP BY floor(location['lat'] * 100), floor(location['lon'] * 100) ORDER BY places DESC, lat, lon LIMIT 20;

-- gaps: which drivers went silent for longest within an hour?
SELECT driver_id, event_time, silent_s FROM (
    SELECT driver_id, event_time, kafka_partition, kafka_offset,
           to_unixtime(event_time) - to_unixtime(lag(event_time) OVER (PARTITION BY driver_id ORDER BY event_time, kafka_offset)) AS silent_s
    FROM bronze.driver_locations
    WHERE event_time >= '2026-01-05T18:00:00Z' AND event_time < '2026-01-05T19:00:00Z'
) AS steps
WHERE silent_s IS NOT NULL ORDER BY silent_s DESC, driver_id, event_time, kafka_partition, kafka_offset LIMIT 50;

-- last_seen: the newest place of each driver.
SELECT driver_id, event_time, city, state FROM (
    SELECT driver_id, event_time, city, state,
           row_number() OVER (PARTITION BY driver_id ORDER BY event_time DESC, kafka_offset DESC) AS place
    FROM bronze.driver_locations
) AS newest
WHERE place = 1 ORDER BY driver_id;

-- fares_and_places: what do trips bring in per place that was reported on them, by city?
SELECT trips.city, count(*) AS trips, sum(trips.fare) AS fares, sum(seen.places) AS places
FROM (SELECT trip_id, city, fare FROM silver.ride_events WHERE event_type = 'completed') AS trips
JOIN (SELECT trip_id, count(*) AS places FROM bronze.driver_locations WHERE trip_id IS NOT NULL GROUP BY trip_id) AS seen
  ON seen.trip_id = trips.trip_id
GROUP BY trips.city ORDER BY trips.city;

-- paid: which cards pay for which trips, and how much is tipped?
SELECT rides.city, payments.card_brand, count(*) AS payments, sum(payments.amount) AS amount, sum(rides.tip) AS tips,
       sum(payments.amount * rides.surge_multiplier) AS surged
FROM bronze.payments AS payments
JOIN silver.ride_events AS rides ON rides.trip_id = payments.trip_id AND rides.event_type = 'completed'
WHERE payments.event_type = 'authorised'
GROUP BY rides.city, payments.card_brand ORDER BY rides.city, payments.card_brand;

-- funnel: how far do visits come, by campaign?
SELECT campaign, count(*) AS visits, sum(searched) AS searched, sum(quoted) AS quoted, sum(requested) AS requested
FROM (
    SELECT domain_sessionid, coalesce(max(mkt_campaign), 'none') AS campaign,
           max(CASE WHEN event_name = 'search' THEN 1 ELSE 0 END) AS searched,
           max(CASE WHEN event_name = 'quote_view' THEN 1 ELSE 0 END) AS quoted,
           max(CASE WHEN event_name = 'request_ride' THEN 1 ELSE 0 END) AS requested
    FROM bronze.clickstream WHERE domain_sessionid IS NOT NULL GROUP BY domain_sessionid
) AS visits
GROUP BY campaign ORDER BY campaign;

-- agents: which devices look at which pages?
SELECT split_part(page_urlpath, '/', 2) AS section, upper(substr(useragent, 1, 9)) AS agent, count(*) AS views,
       count(DISTINCT user_ipaddress) AS addresses
FROM bronze.clickstream
WHERE useragent LIKE '%iPhone%' OR useragent LIKE '%Firefox%' OR page_urlpath LIKE '/t%'
GROUP BY split_part(page_urlpath, '/', 2), upper(substr(useragent, 1, 9)) ORDER BY section NULLS FIRST, agent;
