-- The newest payments that look like fraud, with the kind and the reasons.
-- Answers: what should be held, and why?
CREATE PANEL suspicions
WITH (title = 'Suspicious payments', about = 'score 0.5 or more, the newest first', chart = 'table', wide = true, position = 6)
AS SELECT event_time AS at, CAST(score AS DOUBLE) AS score, suspected, reasons, city, CAST(amount AS DOUBLE) AS amount, currency, payment_id
FROM gold.fraud_scores
WHERE score >= 0.5
ORDER BY event_time DESC, payment_id
LIMIT 50;
