-- Trips of New York's yellow taxis, as the Taxi and Limousine Commission publishes them: a folder of files, each row read once.
-- Answers: where and when are trips made, and what do they cost? (Times are New York's, taken for UTC; distances in miles, money in dollars.)
--
-- load.sh puts the folder and the format in.
CREATE SOURCE yellow_trips (
    vendorid              INT,
    tpep_pickup_datetime  TIMESTAMP NOT NULL,
    tpep_dropoff_datetime TIMESTAMP,
    passenger_count       INT,
    trip_distance         DOUBLE,
    ratecodeid            INT,
    store_and_fwd_flag    VARCHAR,
    pulocationid          INT NOT NULL,
    dolocationid          INT,
    payment_type          INT,                     -- 1 card, 2 cash, 3 no charge, 4 dispute, 5 unknown, 6 voided
    fare_amount           DECIMAL(10, 2),
    extra                 DECIMAL(10, 2),
    mta_tax               DECIMAL(10, 2),
    tip_amount            DECIMAL(10, 2),
    tolls_amount          DECIMAL(10, 2),
    improvement_surcharge DECIMAL(10, 2),
    total_amount          DECIMAL(10, 2),
    congestion_surcharge  DECIMAL(10, 2),
    airport_fee           DECIMAL(10, 2),
    cbd_congestion_fee    DECIMAL(10, 2),          -- from 2025 on
    file                  VARCHAR METADATA FROM 'file',
    row_in_file           BIGINT METADATA FROM 'row',
    WATERMARK FOR tpep_pickup_datetime AS tpep_pickup_datetime - INTERVAL '7 days'
) WITH (connector = 'files', path = '@folder@', format = '@format@', on_error = 'quarantine');

-- All trips with their place in the files.
CREATE STREAMING TABLE bronze.yellow_trips
WITH (commit_interval = '10 seconds')
AS SELECT * FROM yellow_trips;

-- Trips, fares and miles by hour and zone of the pick-up. Rows more than a week older than those before them are in gold.yellow_by_hour$late.
CREATE STREAMING TABLE gold.yellow_by_hour
WITH (commit_interval = '10 seconds')
AS SELECT window_start, pulocationid AS zone, count(*) AS trips,
          sum(total_amount) AS total_amount, sum(tip_amount) AS tips, avg(trip_distance) AS miles
FROM TUMBLE(TABLE yellow_trips, DESCRIPTOR(tpep_pickup_datetime), INTERVAL '1 hour')
GROUP BY window_start, pulocationid;
