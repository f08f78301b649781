-- Auction bids: the input of `bench/stream.sh`.
CREATE SOURCE bids (
    auction   BIGINT,
    bidder    BIGINT,
    price     BIGINT,
    channel   VARCHAR,
    url       VARCHAR,
    date_time TIMESTAMP NOT NULL,
    extra     VARCHAR,
    kafka_time TIMESTAMP METADATA FROM 'timestamp',
    WATERMARK FOR date_time AS date_time - INTERVAL '1 second'
) WITH (connector = 'kafka', topic = 'bids', format = 'json');

-- Pass-through: all 7 fields to Delta.
CREATE STREAMING TABLE bench.all_fields
AS SELECT auction, bidder, price, channel, url, date_time, extra FROM bids;

-- The aggregate: 3 of 7 fields, 100,000 keys, windows of a minute.
CREATE STREAMING TABLE bench.by_auction
AS SELECT window_start, auction, count(*) AS bids, max(price) AS dearest
FROM TUMBLE(TABLE bids, DESCRIPTOR(date_time), INTERVAL '1 minute')
GROUP BY window_start, window_end, auction;
