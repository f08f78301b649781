-- What each ad campaign leads to by minute, from impression to request; 'none' are visits that no campaign led to.
-- Answers: which campaigns are seen, clicked and end in rides?
CREATE STREAMING TABLE gold.campaign_clicks
AS SELECT window_start, window_end, coalesce(mkt_campaign, 'none') AS campaign,
          count(*) AS events,
          count(*) FILTER (WHERE event_name = 'ad_impression') AS impressions,
          count(*) FILTER (WHERE event_name = 'ad_click') AS clicks,
          count(*) FILTER (WHERE event_name = 'request_ride') AS requests,
          approx_distinct(domain_sessionid) AS sessions
FROM TUMBLE(TABLE clickstream, DESCRIPTOR(event_time), INTERVAL '1 minute')
GROUP BY window_start, window_end, coalesce(mkt_campaign, 'none');
