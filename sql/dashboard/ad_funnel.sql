-- What ads of the last hour led to: seen, clicked, a ride asked for in a visit that an ad led to.
-- Answers: how many of those who see an ad end in a ride?
CREATE PANEL ad_funnel
WITH (title = 'From ad to ride', about = 'visits that a campaign led to, the last hour', chart = 'funnel', x = 'step', y = 'count', position = 7)
AS WITH totals AS (
         SELECT sum(impressions) AS impressions, sum(clicks) AS clicks, sum(requests) AS requests
         FROM gold.campaign_clicks
         WHERE campaign <> 'none' AND window_start > (SELECT max(window_start) FROM gold.campaign_clicks) - INTERVAL '1 hour')
SELECT step, count
FROM (SELECT 1 AS place, 'impressions' AS step, impressions AS count FROM totals
      UNION ALL SELECT 2, 'clicks', clicks FROM totals
      UNION ALL SELECT 3, 'rides asked for', requests FROM totals) AS steps
WHERE count IS NOT NULL
ORDER BY place;
