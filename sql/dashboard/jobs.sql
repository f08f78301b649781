-- Each job: when it runs, and how its newest run ended.
-- Answers: are the views fresh, and did a refresh fail?
CREATE PANEL jobs
WITH (title = 'Jobs', about = 'the views that are refreshed on a schedule', chart = 'table', wide = true, position = 11)
AS SELECT job, schedule, status, started, took_ms, rows, runs, failed, error
FROM system.jobs
ORDER BY job;
