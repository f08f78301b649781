-- What became of each attempt to be paid by card or wallet: authorised, declined, refunded, charged_back.
-- Answers: was a trip paid, with which card, from which device, where, and did the money stay?
CREATE SOURCE payments (
    event_id        VARCHAR NOT NULL,
    event_time      TIMESTAMP NOT NULL,
    event_type      VARCHAR NOT NULL,
    payment_id      VARCHAR NOT NULL,
    attempt         INT,
    trip_id         VARCHAR NOT NULL,
    rider_id        VARCHAR NOT NULL,
    driver_id       VARCHAR,
    city            VARCHAR NOT NULL,
    zone            VARCHAR,                        -- of the pick-up
    amount          DECIMAL(10, 2) NOT NULL,
    currency        VARCHAR NOT NULL,
    payment_type    VARCHAR,                        -- card, wallet
    card_id         VARCHAR NOT NULL,
    card_brand      VARCHAR,
    card_country    VARCHAR,
    device_id       VARCHAR,
    user_ipaddress  VARCHAR,
    lat             DOUBLE,                         -- this and the next: degrees, where the device was; none if it does not tell
    lon             DOUBLE,
    promo_code      VARCHAR,
    reason          VARCHAR,                        -- of a decline, refund or chargeback
    kafka_partition INT       METADATA FROM 'partition',
    kafka_offset    BIGINT    METADATA FROM 'offset',
    kafka_time      TIMESTAMP METADATA FROM 'timestamp',
    WATERMARK FOR event_time AS event_time - INTERVAL '10 seconds'
) WITH (connector = 'kafka', topic = 'payments', format = 'json', on_error = 'quarantine');
