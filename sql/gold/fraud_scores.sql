-- Each attempt to pay, with how likely it is fraud (score, 0 to 1), why (reasons), what kind, and the features that say so.
-- A row comes once the watermark of payments has passed its time: the delay that the source declares (10 s) is the latency of a score.
-- Answers: which payments should be held, and what was seen when they were made?
CREATE STREAMING TABLE gold.fraud_scores
WITH (commit_interval = '2 seconds')
AS SELECT score_id, payment_id, event_id, event_time, event_type, rider_id, driver_id, card_id, device_id, city, amount, currency,
          round(1 - (1 - card_testing) * (1 - account_takeover) * (1 - promo_abuse) * (1 - collusion), 3) AS score,
          CASE greatest(card_testing, account_takeover, promo_abuse, collusion)
              WHEN 0.0 THEN NULL
              WHEN card_testing THEN 'card_testing'
              WHEN promo_abuse THEN 'promo_abuse'
              WHEN collusion THEN 'collusion'
              ELSE 'account_takeover'
          END AS suspected,
          nullif(concat_ws(', ',
              CASE WHEN declined_cards > 0 THEN 'declined_cards' END,
              CASE WHEN small_amounts > 0 THEN 'small_amounts_on_many_cards' END,
              CASE WHEN card_velocity > 0 THEN 'card_velocity' END,
              CASE WHEN implied_speed > 0 THEN 'implied_speed' END,
              CASE WHEN second_city > 0 THEN 'second_city' END,
              CASE WHEN new_device > 0 THEN 'new_device' END,
              CASE WHEN high_amount > 0 THEN 'high_amount' END,
              CASE WHEN new_card > 0 THEN 'new_card_with_high_amount' END,
              CASE WHEN promo_abuse > 0 THEN 'promotions_by_many_riders' END,
              CASE WHEN collusion > 0 THEN 'same_rider_and_driver' END), '') AS reasons,
          amount_ratio,
          card_payments_1m, card_payments_10m, card_payments_1h, card_payments_1d, card_amount_1m, card_amount_10m, card_amount_1h, card_amount_1d,
          card_declines_1h, card_decline_ratio_1h, card_age_s,
          device_payments_10m, device_declines_10m, device_decline_ratio_1h, device_cards_1h, device_riders_1d, device_promos_1d, device_age_s,
          rider_payments_1h, rider_amount_1d, rider_declines_1h, rider_devices_1d, rider_cities_1d, rider_moved_m, rider_speed_m_s,
          pair_payments_3h
FROM (
    -- Rules of one kind of fraud that hold together weigh more than one: 1 - (1 - a) * (1 - b).
    SELECT *,
           1 - (1 - declined_cards) * (1 - small_amounts) * (1 - card_velocity) AS card_testing,
           1 - (1 - implied_speed) * (1 - second_city) * (1 - new_device) * (1 - high_amount) * (1 - new_card) AS account_takeover
    FROM (
        SELECT *,
               CASE WHEN device_declines_10m >= 3 AND device_cards_1h >= 3 THEN 0.8 ELSE 0.0 END AS declined_cards,
               CASE WHEN device_payments_10m >= 3 AND device_cards_1h >= 3 AND amount_ratio < 0.4 THEN 0.6 ELSE 0.0 END AS small_amounts,
               CASE WHEN card_payments_10m >= 4 OR card_declines_1h >= 3 THEN 0.3 ELSE 0.0 END AS card_velocity,
               CASE WHEN rider_moved_m > 50000 AND rider_speed_m_s > 100 THEN 0.4 ELSE 0.0 END AS implied_speed,
               CASE WHEN rider_cities_1d >= 2 THEN 0.2 ELSE 0.0 END AS second_city,
               CASE WHEN rider_devices_1d >= 2 AND device_age_s < 3600 THEN 0.3 ELSE 0.0 END AS new_device,
               CASE WHEN amount_ratio >= 3 THEN 0.3 ELSE 0.0 END AS high_amount,
               CASE WHEN amount_ratio >= 3 AND card_payments_1d = 1 THEN 0.1 ELSE 0.0 END AS new_card,
               CASE WHEN device_promos_1d >= 3 AND device_riders_1d >= 3 THEN 0.7 ELSE 0.0 END AS promo_abuse,
               CASE WHEN driver_id IS NULL THEN 0.0 WHEN pair_payments_3h >= 5 THEN 0.7 WHEN pair_payments_3h >= 4 THEN 0.3 ELSE 0.0 END AS collusion
        FROM (
            SELECT 'payments-' || kafka_partition || '-' || kafka_offset AS score_id,
                   payment_id, event_id, event_time, event_type, rider_id, driver_id, card_id, device_id, city, amount, currency,
                   CAST(amount AS DOUBLE) / nullif(CAST(avg(amount) OVER city_1h AS DOUBLE), 0) AS amount_ratio,

                   count(*) OVER card_1m AS card_payments_1m,
                   count(*) OVER card_10m AS card_payments_10m,
                   count(*) OVER card_1h AS card_payments_1h,
                   count(*) OVER card_1d AS card_payments_1d,
                   sum(amount) OVER card_1m AS card_amount_1m,
                   sum(amount) OVER card_10m AS card_amount_10m,
                   sum(amount) OVER card_1h AS card_amount_1h,
                   sum(amount) OVER card_1d AS card_amount_1d,
                   count(*) FILTER (WHERE event_type = 'declined') OVER card_1h AS card_declines_1h,
                   CAST(count(*) FILTER (WHERE event_type = 'declined') OVER card_1h AS DOUBLE) / count(*) OVER card_1h AS card_decline_ratio_1h,
                   (CAST(event_time AS BIGINT) - CAST(first_value(event_time) OVER card_1d AS BIGINT)) / 1000000.0 AS card_age_s,

                   count(*) OVER device_10m AS device_payments_10m,
                   count(*) FILTER (WHERE event_type = 'declined') OVER device_10m AS device_declines_10m,
                   CAST(count(*) FILTER (WHERE event_type = 'declined') OVER device_1h AS DOUBLE) / count(*) OVER device_1h AS device_decline_ratio_1h,
                   count(DISTINCT card_id) OVER device_1h AS device_cards_1h,
                   count(DISTINCT rider_id) OVER device_1d AS device_riders_1d,
                   count(promo_code) OVER device_1d AS device_promos_1d,
                   (CAST(event_time AS BIGINT) - CAST(first_value(event_time) OVER device_1d AS BIGINT)) / 1000000.0 AS device_age_s,

                   count(*) OVER rider_1h AS rider_payments_1h,
                   sum(amount) OVER rider_1d AS rider_amount_1d,
                   count(*) FILTER (WHERE event_type = 'declined') OVER rider_1h AS rider_declines_1h,
                   count(DISTINCT device_id) OVER rider_1d AS rider_devices_1d,
                   count(DISTINCT city) OVER rider_1d AS rider_cities_1d,
                   distance_m(lat, lon, last_value(lat) OVER rider_before, last_value(lon) OVER rider_before) AS rider_moved_m,
                   distance_m(lat, lon, last_value(lat) OVER rider_before, last_value(lon) OVER rider_before)
                       / ((CAST(event_time AS BIGINT) - CAST(last_value(event_time) OVER rider_before AS BIGINT)) / 1000000.0) AS rider_speed_m_s,

                   count(*) OVER pair_3h AS pair_payments_3h
            -- A payment that Kafka was sent twice is one payment.
            FROM DEDUPLICATE(TABLE (
                     SELECT event_id, event_time, event_type, payment_id, rider_id, driver_id, city, amount, currency, card_id, device_id,
                            lat, lon, promo_code, kafka_partition, kafka_offset
                     FROM payments WHERE event_type IN ('authorised', 'declined')
                 ) PARTITION BY event_id, DESCRIPTOR(event_time), INTERVAL '1 minute')
            WINDOW card_1m AS (PARTITION BY card_id ORDER BY event_time RANGE BETWEEN INTERVAL '1 minute' PRECEDING AND CURRENT ROW),
                   card_10m AS (PARTITION BY card_id ORDER BY event_time RANGE BETWEEN INTERVAL '10 minutes' PRECEDING AND CURRENT ROW),
                   card_1h AS (PARTITION BY card_id ORDER BY event_time RANGE BETWEEN INTERVAL '1 hour' PRECEDING AND CURRENT ROW),
                   card_1d AS (PARTITION BY card_id ORDER BY event_time RANGE BETWEEN INTERVAL '1 day' PRECEDING AND CURRENT ROW),
                   device_10m AS (PARTITION BY device_id ORDER BY event_time RANGE BETWEEN INTERVAL '10 minutes' PRECEDING AND CURRENT ROW),
                   device_1h AS (PARTITION BY device_id ORDER BY event_time RANGE BETWEEN INTERVAL '1 hour' PRECEDING AND CURRENT ROW),
                   device_1d AS (PARTITION BY device_id ORDER BY event_time RANGE BETWEEN INTERVAL '1 day' PRECEDING AND CURRENT ROW),
                   rider_1h AS (PARTITION BY rider_id ORDER BY event_time RANGE BETWEEN INTERVAL '1 hour' PRECEDING AND CURRENT ROW),
                   rider_1d AS (PARTITION BY rider_id ORDER BY event_time RANGE BETWEEN INTERVAL '1 day' PRECEDING AND CURRENT ROW),
                   rider_before AS (PARTITION BY rider_id ORDER BY event_time
                                    RANGE BETWEEN INTERVAL '1 day' PRECEDING AND INTERVAL '1 microsecond' PRECEDING),
                   pair_3h AS (PARTITION BY rider_id, driver_id ORDER BY event_time RANGE BETWEEN INTERVAL '3 hours' PRECEDING AND CURRENT ROW),
                   city_1h AS (PARTITION BY city ORDER BY event_time RANGE BETWEEN INTERVAL '1 hour' PRECEDING AND CURRENT ROW)
        )
    )
);
