-- What passed between us and a partner, request by request: deliveries say where they were sent, events of kind "exchange"
-- say what a partner asked and was answered. Those are many, so the uptime no longer sorts all events to know the newest.

ALTER TABLE deliveries
    ADD COLUMN IF NOT EXISTS method LowCardinality(String) DEFAULT 'POST' COMMENT 'The HTTP method' AFTER duration_ms,
    ADD COLUMN IF NOT EXISTS url String DEFAULT '' COMMENT 'Where it was sent, without a query; empty where nothing was sent' CODEC(ZSTD(1)) AFTER method;

CREATE OR REPLACE VIEW v_deliveries AS
SELECT
    * EXCEPT (version),
    version = max(version) OVER (PARTITION BY message_id) AS is_last
FROM deliveries FINAL
COMMENT 'Attempts to deliver messages; the one with is_last says where its message stands';

CREATE OR REPLACE VIEW v_connection_events AS
SELECT * EXCEPT (version) FROM connection_events FINAL
COMMENT 'Transitions, exchanges and oddities; those of kind exchange are many, and v_exchanges has their details as columns';

CREATE OR REPLACE VIEW v_exchanges AS
SELECT
    subject_id AS partner_id,
    at,
    'IN' AS direction,
    JSONExtractString(data, 'action') AS action,
    JSONExtractString(data, 'method') AS method,
    JSONExtractString(data, 'url') AS url,
    JSONExtract(data, 'status', 'Nullable(Int64)') AS status,
    JSONExtractInt(data, 'duration_ms') AS duration_ms,
    JSONExtract(data, 'request_id', 'Nullable(String)') AS request_id,
    JSONExtract(data, 'correlation_id', 'Nullable(String)') AS correlation_id,
    CAST(NULL, 'Nullable(Int64)') AS attempt,
    '' AS outcome,
    words,
    event_id
FROM connection_events FINAL
WHERE subject_kind = 'PARTNER' AND kind = 'exchange'
UNION ALL
SELECT
    CAST(partner_id, 'String') AS partner_id,
    at,
    'OUT' AS direction,
    CAST(action, 'String') AS action,
    CAST(method, 'String') AS method,
    url,
    status,
    duration_ms,
    CAST(message_id, 'Nullable(String)') AS request_id,
    correlation_id,
    CAST(attempt, 'Nullable(Int64)') AS attempt,
    CAST(outcome, 'String') AS outcome,
    words,
    event_id
FROM deliveries FINAL
WHERE outcome NOT IN ('EXPIRED', 'DROPPED')
COMMENT 'Each request between us and a partner: IN are its requests to us, OUT our attempts to deliver to it. status is NULL where no answer came';

CREATE OR REPLACE VIEW v_link_uptime AS
SELECT
    partner_id,
    day,
    sum(seconds) AS observed_s,
    sumIf(seconds, state = 'ONLINE') AS online_s,
    sumIf(seconds, state = 'OFFLINE') AS offline_s,
    observed_s - online_s - offline_s AS other_s,
    online_s / observed_s AS uptime
FROM
(
    SELECT
        partner_id, state, day,
        dateDiff('millisecond', greatest(since, toDateTime64(day, 3, 'UTC')), least(until, toDateTime64(day + 1, 3, 'UTC'))) / 1000 AS seconds
    FROM
    (
        SELECT
            partner_id, state, since,
            assumeNotNull(ifNull(minOrNull(since) OVER (PARTITION BY partner_id ORDER BY since, stated ROWS BETWEEN 1 FOLLOWING AND 1 FOLLOWING), newest)) AS until
        FROM
        (
            SELECT
                partner_id, since, state, max(at) AS stated,
                assumeNotNull(greatest(
                    (SELECT max(at) FROM v_connections),
                    (SELECT max(at) FROM connection_events WHERE kind != 'exchange'),
                    (SELECT max(start) + INTERVAL 15 MINUTE FROM v_quarter_hours)
                )) AS newest
            FROM v_connections
            GROUP BY partner_id, since, state
        )
    )
    ARRAY JOIN arrayMap(n -> toDate(since, 'UTC') + n, range(toUInt32(toDate(until, 'UTC') - toDate(since, 'UTC') + 1))) AS day
)
WHERE seconds > 0
GROUP BY partner_id, day
COMMENT 'For each partner and UTC day: seconds in each state as far as the history reaches, and the share online';
