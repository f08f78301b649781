-- Payments by score and minute: how many looked harmless, odd, or like fraud.
-- Answers: is somebody attacking?
CREATE PANEL fraud_scores
WITH (title = 'Fraud scores', about = 'the highest and the mean score of each minute', chart = 'line', x = 'minute', y = 'score', series = 'what',
      position = 4)
AS WITH minutes AS (
         SELECT date_bin(INTERVAL '1 minute', event_time) AS minute, max(score) AS highest, avg(score) AS mean
         FROM gold.fraud_scores
         WHERE event_time > (SELECT max(event_time) FROM gold.fraud_scores) - INTERVAL '2 hours'
         GROUP BY 1)
SELECT minute, 'highest' AS what, CAST(highest AS DOUBLE) AS score FROM minutes
UNION ALL
SELECT minute, 'mean', CAST(mean AS DOUBLE) FROM minutes
ORDER BY minute, what;
