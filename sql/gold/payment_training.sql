-- Each attempt to pay of the newest hour with how payments in its city went as far as was known then: the newest minute that had ended. Nothing of
-- what came later is in its row.
-- Answers: what could a model have known when the payment was made, and what became of it?
CREATE MATERIALIZED VIEW gold.payment_training
SCHEDULE EVERY 1 MINUTE
AS SELECT *
FROM bronze.payments AS p
ASOF JOIN gold.payments_by_minute AS f
    MATCH_CONDITION (p.event_time >= f.window_end)
    ON p.city = f.city AND p.currency = f.currency
WHERE p.event_type IN ('authorised', 'declined')
  AND p.event_time > (SELECT max(event_time) FROM bronze.payments) - INTERVAL '1 hour';
