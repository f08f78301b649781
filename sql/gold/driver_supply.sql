-- Drivers by city, minute and what they are doing; events is the number of locations sent, speed their mean in m/s.
-- Answers: how many drivers are free, on the way or on a trip in each city, and how fast does traffic move?
CREATE STREAMING TABLE gold.driver_supply
AS SELECT window_start, window_end, city, state,
          count(*) AS events,
          approx_distinct(driver_id) AS drivers,
          avg(speed) AS speed
FROM TUMBLE(TABLE driver_locations, DESCRIPTOR(event_time), INTERVAL '1 minute')
GROUP BY window_start, window_end, city, state;
