-- Each pipeline: what runs it, how far it lags, what became of its rows.
-- Answers: is everything running, and does anything lag?
CREATE PANEL pipelines
WITH (title = 'Pipelines', about = 'from the newest epoch of each, whoever runs it', chart = 'table', wide = true, position = 10)
AS SELECT pipeline, state, behind, lag_records AS lag, rows_in, rows_out, late, quarantined, deduplicated AS duplicates,
          commit_ms, state_bytes / 1024 AS state_kib, epoch, age AS last_commit
FROM system.pipelines
ORDER BY pipeline;
