-- Which events are fraud, as the simulator knows: one row for each event of an episode, at the time of that event.
-- Answers: how good are the fraud scores? (In life such labels come weeks later, from chargebacks and investigations.)
CREATE SOURCE fraud_labels (
    label_id        VARCHAR NOT NULL,
    event_time      TIMESTAMP NOT NULL,             -- of the labelled event
    kind            VARCHAR NOT NULL,               -- card_testing, account_takeover, promo_abuse, collusion, gps_spoofing
    episode_id      VARCHAR NOT NULL,
    event_id        VARCHAR NOT NULL,               -- of a payment event, or of a driver's location for gps_spoofing
    payment_id      VARCHAR,                        -- this and the following: none where the kind has no such thing
    driver_id       VARCHAR,
    rider_id        VARCHAR,
    card_id         VARCHAR,
    device_id       VARCHAR,
    kafka_partition INT       METADATA FROM 'partition',
    kafka_offset    BIGINT    METADATA FROM 'offset',
    kafka_time      TIMESTAMP METADATA FROM 'timestamp',
    WATERMARK FOR event_time AS event_time - INTERVAL '10 seconds'
) WITH (connector = 'kafka', topic = 'fraud-labels', format = 'json', on_error = 'quarantine');
