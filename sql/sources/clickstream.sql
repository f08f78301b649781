-- Page and app events, ad impressions and ad clicks of riders and strangers, in Snowplow's words.
-- Answers: how do people come to us, what do they look at, and where do they give up?
CREATE SOURCE clickstream (
    event_id         VARCHAR NOT NULL,
    event_time       TIMESTAMP NOT NULL,            -- Snowplow's derived_tstamp
    event_name       VARCHAR NOT NULL,
    app_id           VARCHAR,
    platform         VARCHAR,                       -- mob, web
    domain_userid    VARCHAR NOT NULL,
    domain_sessionid VARCHAR,                       -- none for ad_impression
    user_id          VARCHAR,                       -- rider_id of who has signed in
    user_ipaddress   VARCHAR,
    city             VARCHAR NOT NULL,
    geo_country      VARCHAR,
    dvce_type        VARCHAR,
    useragent        VARCHAR,
    page_urlpath     VARCHAR,
    mkt_source       VARCHAR,
    mkt_medium       VARCHAR,
    mkt_campaign     VARCHAR,
    se_category      VARCHAR,
    se_action        VARCHAR,
    kafka_partition  INT       METADATA FROM 'partition',
    kafka_offset     BIGINT    METADATA FROM 'offset',
    kafka_time       TIMESTAMP METADATA FROM 'timestamp',
    WATERMARK FOR event_time AS event_time - INTERVAL '10 seconds'
) WITH (connector = 'kafka', topic = 'clickstream', format = 'json', on_error = 'quarantine');
