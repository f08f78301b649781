-- Rows a second that all pipelines together read and wrote, by the epochs that are kept.
-- Answers: does the flow keep up?
CREATE PANEL throughput
WITH (title = 'Flow', about = 'rows that all pipelines read and wrote', chart = 'line', x = 'at', y = 'rows', series = 'what',
      unit = 'rows a second', wide = true, position = 9)
AS WITH sums AS (
         SELECT date_bin(INTERVAL '10 seconds', committed) AS at, sum(rows_in) AS rows_in, sum(rows_out) AS rows_out
         FROM system.epochs
         GROUP BY 1),
     -- The newest ten seconds are not over yet; alone they are better than nothing.
     whole AS (SELECT * FROM sums WHERE at < (SELECT max(at) FROM sums) OR (SELECT count(*) FROM sums) = 1)
SELECT at, 'read' AS what, rows_in / 10.0 AS rows FROM whole
UNION ALL
SELECT at, 'written', rows_out / 10.0 FROM whole
ORDER BY at, what;
