-- Demand and its outcome by city and minute; revenue is the sum of fares of completed trips, in the city's currency.
-- Answers: how many rides are asked for, completed and cancelled in each city right now, and what do they bring in?
CREATE STREAMING TABLE gold.city_demand
AS SELECT window_start, window_end, city,
          count(*) AS events,
          count(*) FILTER (WHERE event_type = 'requested') AS requests,
          count(*) FILTER (WHERE event_type = 'completed') AS completions,
          count(*) FILTER (WHERE event_type = 'cancelled') AS cancellations,
          sum(fare) AS revenue,
          approx_distinct(rider_id) AS riders
FROM TUMBLE(TABLE ride_events, DESCRIPTOR(event_time), INTERVAL '1 minute')
GROUP BY window_start, window_end, city;
