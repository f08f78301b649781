-- Every stage of every trip, as riders, drivers and dispatch report it: requested, matched, arrived, picked_up, completed, cancelled.
-- Answers: what happened to a trip, when, where, and what did it cost? (MDS words; distance in metres, duration and trip_wait_time in seconds.)
CREATE SOURCE ride_events (
    event_id            VARCHAR NOT NULL,
    event_time          TIMESTAMP NOT NULL,
    event_type          VARCHAR NOT NULL,
    trip_id             VARCHAR NOT NULL,
    rider_id            VARCHAR NOT NULL,
    driver_id           VARCHAR,                    -- from matched on
    vehicle_id          VARCHAR,
    city                VARCHAR NOT NULL,
    zone                VARCHAR NOT NULL,           -- of the pick-up
    dropoff_zone        VARCHAR,
    start_location      STRUCT<lat DOUBLE, lon DOUBLE>,
    end_location        STRUCT<lat DOUBLE, lon DOUBLE>,
    location            STRUCT<lat DOUBLE, lon DOUBLE>,  -- of the driver, from matched on
    payment_type        VARCHAR,                    -- card, wallet, cash
    surge_multiplier    DECIMAL(4, 2),
    trip_wait_time      BIGINT,                     -- from picked_up on
    distance            BIGINT,                     -- this and the following: completed only
    duration            BIGINT,
    currency            VARCHAR,
    fare                DECIMAL(10, 2),
    tolls               DECIMAL(10, 2),
    tip                 DECIMAL(10, 2),
    driver_trip_pay     DECIMAL(10, 2),
    cancelled_by        VARCHAR,                    -- rider, driver, provider
    cancellation_reason VARCHAR,
    kafka_partition     INT       METADATA FROM 'partition',
    kafka_offset        BIGINT    METADATA FROM 'offset',
    kafka_time          TIMESTAMP METADATA FROM 'timestamp',
    WATERMARK FOR event_time AS event_time - INTERVAL '10 seconds'
) WITH (connector = 'kafka', topic = 'ride-events', format = 'json', on_error = 'quarantine');
