-- Every fraud score as it is decided, one message each, under an id made of the payment's place in Kafka.
-- Answers: which payments should the fraud service hold now, each once?
CREATE SINK fraud_scores TO KAFKA (
    topic = 'fraud-scores', format = 'json', key = 'payment_id', id = 'score_id', partitions = 3
)
AS SELECT score_id, payment_id, event_id, event_time, event_type, rider_id, driver_id, card_id, device_id, city, amount, currency,
          score, suspected, reasons
FROM STREAM(gold.fraud_scores);
