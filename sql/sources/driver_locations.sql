-- Where each driver on shift is and what it is doing, every 4 seconds.
-- Answers: who is free, where, and how does traffic flow? (state in MDS words; speed in m/s, heading in degrees, accuracy in metres.)
CREATE SOURCE driver_locations (
    event_id        VARCHAR NOT NULL,
    event_time      TIMESTAMP NOT NULL,
    driver_id       VARCHAR NOT NULL,
    vehicle_id      VARCHAR,
    city            VARCHAR NOT NULL,
    zone            VARCHAR NOT NULL,
    state           VARCHAR NOT NULL,               -- available, reserved, on_trip, stopped, non_operational
    trip_id         VARCHAR,                        -- from matched to completed
    location        STRUCT<lat DOUBLE, lon DOUBLE>,
    speed           DECIMAL(5, 1),
    heading         INT,
    accuracy        INT,
    kafka_partition INT       METADATA FROM 'partition',
    kafka_offset    BIGINT    METADATA FROM 'offset',
    kafka_time      TIMESTAMP METADATA FROM 'timestamp',
    WATERMARK FOR event_time AS event_time - INTERVAL '10 seconds'
) WITH (connector = 'kafka', topic = 'driver-locations', format = 'json', on_error = 'quarantine');
