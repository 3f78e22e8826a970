-- Twenty million rows, two million keys: an aggregate whose state is read and written for every row.
--
--   aquifer sql -f examples/group_by.sql -p 2
--   aquifer sql -f examples/group_by.sql -p 2 -D state.backend.type=hashmap
--
-- The rows are random but the same on every run, and the result goes nowhere: the summary on standard error is what to look at.

SET 'execution.checkpointing.interval' = '10 s';

CREATE TABLE measurements (
  sensor BIGINT,
  reading BIGINT
) WITH (
  'connector' = 'datagen',
  'number-of-rows' = '20000000',
  'rows-per-second' = '1000000000',
  'fields.sensor.min' = '0',
  'fields.sensor.max' = '1999999',
  'fields.reading.min' = '0',
  'fields.reading.max' = '1000'
);

CREATE TABLE sensors (
  sensor BIGINT,
  readings BIGINT,
  total BIGINT,
  highest BIGINT
) WITH (
  'connector' = 'blackhole'
);

INSERT INTO sensors
SELECT sensor, COUNT(*), SUM(reading), MAX(reading)
FROM measurements
GROUP BY sensor;
