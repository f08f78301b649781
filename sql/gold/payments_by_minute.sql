-- Payment outcomes by city and minute; returned_amount is what was refunded or charged back.
-- Answers: are payments going through, and how much money goes back?
CREATE STREAMING TABLE gold.payments_by_minute
AS SELECT window_start, window_end, city, currency,
          count(*) AS events,
          count(*) FILTER (WHERE event_type = 'authorised') AS authorised,
          count(*) FILTER (WHERE event_type = 'declined') AS declined,
          count(*) FILTER (WHERE event_type = 'refunded') AS refunded,
          count(*) FILTER (WHERE event_type = 'charged_back') AS charged_back,
          sum(amount) FILTER (WHERE event_type = 'authorised') AS authorised_amount,
          sum(amount) FILTER (WHERE event_type IN ('refunded', 'charged_back')) AS returned_amount
FROM TUMBLE(TABLE payments, DESCRIPTOR(event_time), INTERVAL '1 minute')
GROUP BY window_start, window_end, city, currency;
