-- How good the fraud scores are, by kind, against the simulator's labels; 'all' is all kinds together. An event counts as flagged from a score
-- of 0.5 on. Labels count as far as scores have come, so that the latency of scores is no failure of theirs; events that were late for
-- scoring count as missed.
-- Answers: of what was flagged, how much was fraud (precision)? Of the fraud, how much was flagged (recall), and of its episodes?
CREATE MATERIALIZED VIEW gold.fraud_quality
SCHEDULE EVERY 1 MINUTE
AS WITH flagged AS (
    SELECT event_id, suspected FROM gold.fraud_scores WHERE score >= 0.5
    UNION ALL
    SELECT event_id, suspected FROM gold.driver_fraud_scores WHERE score >= 0.5
),
labels AS (
    SELECT DISTINCT event_id, kind, episode_id FROM bronze.fraud_labels
    WHERE event_time <= (SELECT max(event_time) FROM gold.fraud_scores)
),
labelled AS (
    SELECT kind, episode_id, flagged.event_id IS NOT NULL AS caught
    FROM labels LEFT JOIN flagged ON flagged.event_id = labels.event_id
),
suspected AS (
    SELECT suspected, labels.kind AS kind FROM flagged LEFT JOIN labels ON labels.event_id = flagged.event_id
),
found AS (
    SELECT kind, count(*) AS labelled, count(*) FILTER (WHERE caught) AS caught,
           count(DISTINCT episode_id) AS episodes, count(DISTINCT episode_id) FILTER (WHERE caught) AS episodes_caught
    FROM labelled GROUP BY kind
    UNION ALL
    SELECT 'all', count(*), count(*) FILTER (WHERE caught), count(DISTINCT episode_id), count(DISTINCT episode_id) FILTER (WHERE caught)
    FROM labelled
),
claimed AS (
    -- A suspicion of one kind that is fraud of another is wrong for its kind and right for all.
    SELECT suspected AS kind, count(*) AS flagged, count(*) FILTER (WHERE kind = suspected) AS fraud FROM suspected GROUP BY suspected
    UNION ALL
    SELECT 'all', count(*), count(kind) FROM suspected
)
SELECT found.kind AS kind, labelled, caught, round(CAST(caught AS DOUBLE) / nullif(labelled, 0), 3) AS recall,
       coalesce(flagged, 0) AS flagged, coalesce(fraud, 0) AS fraud, round(CAST(fraud AS DOUBLE) / nullif(flagged, 0), 3) AS precision,
       episodes, episodes_caught
FROM found LEFT JOIN claimed ON claimed.kind = found.kind;
