-- Visits of the last hour by how far they came; a visit is a session of the app or the web site.
-- Answers: at which step do people give up?
CREATE PANEL visit_funnel
WITH (title = 'From visit to ride', about = 'visits by how far they came, the last hour', chart = 'funnel', x = 'step', y = 'visits', position = 8)
AS WITH totals AS (
         SELECT approx_distinct(domain_sessionid) AS visits,
                approx_distinct(domain_sessionid) FILTER (WHERE event_name = 'search') AS searches,
                approx_distinct(domain_sessionid) FILTER (WHERE event_name = 'quote_view') AS quotes,
                approx_distinct(domain_sessionid) FILTER (WHERE event_name = 'request_ride') AS requests
         FROM bronze.clickstream
         WHERE event_time > (SELECT max(event_time) FROM bronze.clickstream) - INTERVAL '1 hour')
SELECT step, visits
FROM (SELECT 1 AS place, 'visit' AS step, visits FROM totals
      UNION ALL SELECT 2, 'destination searched', searches FROM totals
      UNION ALL SELECT 3, 'price seen', quotes FROM totals
      UNION ALL SELECT 4, 'ride asked for', requests FROM totals) AS steps
WHERE (SELECT visits FROM totals) > 0
ORDER BY place;
