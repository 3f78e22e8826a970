-- A running auction house: two results of one stream of two million auction events (Nexmark's generator).
--
--   aquifer sql -f examples/auctions.sql
--
-- Statistics of each auction and day are printed as they change; the bids of every ten seconds are counted per channel and written exactly once,
-- as JSON lines, to out/bids_per_channel. Kill the process whenever you like and run the command again with --resume.

SET 'execution.checkpointing.interval' = '1 s';

CREATE TABLE nexmark (
  event_type INT,
  person ROW<id BIGINT, name VARCHAR, emailAddress VARCHAR, creditCard VARCHAR, city VARCHAR, state VARCHAR, `dateTime` TIMESTAMP(3), extra VARCHAR>,
  auction ROW<id BIGINT, itemName VARCHAR, description VARCHAR, initialBid BIGINT, reserve BIGINT, `dateTime` TIMESTAMP(3), expires TIMESTAMP(3), seller BIGINT, category BIGINT, extra VARCHAR>,
  bid ROW<auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR, `dateTime` TIMESTAMP(3), extra VARCHAR>,
  `dateTime` AS CASE WHEN event_type = 0 THEN person.`dateTime` WHEN event_type = 1 THEN auction.`dateTime` ELSE bid.`dateTime` END,
  WATERMARK FOR `dateTime` AS `dateTime` - INTERVAL '4' SECOND
) WITH (
  'connector' = 'nexmark',
  'events.num' = '2000000'
);

CREATE VIEW bid AS
SELECT bid.auction, bid.bidder, bid.price, bid.channel, `dateTime` FROM nexmark WHERE event_type = 2;

CREATE TABLE auction_statistics (
  auction BIGINT,
  `day` VARCHAR,
  bids BIGINT,
  low_bids BIGINT,
  high_bids BIGINT,
  lowest_price BIGINT,
  highest_price BIGINT,
  average_price BIGINT,
  PRIMARY KEY (auction, `day`) NOT ENFORCED
) WITH (
  'connector' = 'print'
);

CREATE TABLE bids_per_channel (
  window_start TIMESTAMP(3),
  window_end TIMESTAMP(3),
  channel VARCHAR,
  bids BIGINT,
  total_price BIGINT
) WITH (
  'connector' = 'filesystem',
  'path' = 'out/bids_per_channel',
  'format' = 'json'
);

EXECUTE STATEMENT SET
BEGIN

INSERT INTO auction_statistics
SELECT
  auction,
  DATE_FORMAT(`dateTime`, 'yyyy-MM-dd'),
  COUNT(*),
  COUNT(*) FILTER (WHERE price < 10000),
  COUNT(*) FILTER (WHERE price >= 1000000),
  MIN(price),
  MAX(price),
  AVG(price)
FROM bid
GROUP BY auction, DATE_FORMAT(`dateTime`, 'yyyy-MM-dd');

INSERT INTO bids_per_channel
SELECT window_start, window_end, channel, COUNT(*), SUM(price)
FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND))
GROUP BY window_start, window_end, channel;

END;
