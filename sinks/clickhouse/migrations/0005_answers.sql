-- Views that answer a question each. Days are UTC days; the saved questions know local days. Where "until now" is
-- needed, now is the end of the newest quarter hour or the newest fact in the store, never the machine's time: a
-- recorded day stays a recorded day.

CREATE OR REPLACE VIEW v_headroom AS
SELECT
    used.group_id AS group_id,
    judged.partner_id AS partner_id,
    used.scope_id AS scope_id,
    used.quarter AS quarter,
    used.direction AS direction,
    used.used_wh AS used_wh,
    judged.allowed_wh AS allowed_wh,
    judged.allowed_wh - used.used_wh AS headroom_wh,
    used.used_wh * 4 AS used_w,
    judged.allowed_wh * 4 AS allowed_w,
    (judged.allowed_wh - used.used_wh) * 4 AS headroom_w,
    if(judged.group_id = '', 'NOT_JUDGED', judged.verdict) AS verdict,
    judged.reason AS reason,
    used.coverage AS coverage,
    used.estimated AS estimated
FROM
(
    SELECT id AS group_id, scope_id, start AS quarter, direction, used_wh, coverage, estimated
    FROM v_quarter_hours
    ARRAY JOIN ['IMPORT', 'EXPORT'] AS direction, [import_wh, export_wh] AS used_wh
    WHERE level = 'GROUP' AND phase = 'ALL'
) AS used
LEFT JOIN v_verdicts AS judged
    ON judged.group_id = used.group_id AND judged.quarter = used.quarter AND judged.direction = used.direction
COMMENT 'For each group quarter and direction: energy used and allowed, what was left, and the same as mean power; allowed is NULL where the limit was not known throughout';

CREATE OR REPLACE VIEW v_compliance AS
SELECT
    group_id,
    any(partner_id) AS partner_id,
    any(scope_id) AS scope_id,
    direction,
    toDate(quarter, 'UTC') AS day,
    count() AS judged,
    countIf(verdict = 'WITHIN') AS within,
    countIf(verdict = 'BREACHED') AS breached,
    countIf(verdict = 'UNKNOWN') AS unknown,
    if(within + breached = 0, NULL, within / (within + breached)) AS share_within,
    sumIf(used_wh - allowed_wh, verdict = 'BREACHED') AS energy_over_wh
FROM v_verdicts
GROUP BY group_id, direction, day
COMMENT 'For each group, direction and UTC day: quarters judged within, breached and unknown; the share counts only what could be judged';

CREATE OR REPLACE VIEW v_delivery_daily AS
SELECT
    partner_id,
    action,
    toDate(stands_at, 'UTC') AS day,
    count() AS messages,
    countIf(stands = 'DELIVERED') AS delivered,
    countIf(stands = 'REFUSED') AS refused,
    countIf(stands = 'EXPIRED') AS expired,
    countIf(stands IN ('PARKED', 'DROPPED')) AS parked_or_dropped,
    countIf(stands IN ('RETRY', 'HELD')) AS waiting,
    sum(attempts) AS attempts,
    max(most_attempts) AS most_attempts,
    quantileExact(0.5)(duration) AS median_ms,
    quantileExact(0.95)(duration) AS p95_ms
FROM
(
    SELECT
        partner_id, action, message_id,
        argMax(outcome, is_last) AS stands,
        argMax(at, is_last) AS stands_at,
        argMax(duration_ms, is_last) AS duration,
        countIf(outcome IN ('DELIVERED', 'RETRY', 'REFUSED')) AS attempts,
        max(attempt) AS most_attempts
    FROM v_deliveries
    GROUP BY partner_id, action, message_id
)
GROUP BY partner_id, action, day
COMMENT 'For each partner, action and UTC day: messages by where they stand, attempts, and how long the last attempt took';

CREATE OR REPLACE VIEW v_completeness AS
SELECT
    calendar.level AS level,
    calendar.id AS id,
    calendar.phase AS phase,
    calendar.day AS day,
    calendar.expected AS expected,
    present.quarters AS quarters,
    calendar.expected - present.quarters AS missing,
    present.covered / calendar.expected AS coverage,
    present.estimated AS estimated
FROM
(
    SELECT
        level, id, phase, day,
        toUInt64(dateDiff('second', greatest(first, toDateTime64(day, 3, 'UTC')), least(newest, toDateTime64(day + 1, 3, 'UTC'))) / 900) AS expected
    FROM
    (
        SELECT
            level, id, phase, min(start) AS first,
            (SELECT max(start) + INTERVAL 15 MINUTE FROM v_quarter_hours) AS newest
        FROM v_quarter_hours
        GROUP BY level, id, phase
    )
    ARRAY JOIN arrayMap(n -> toDate(first, 'UTC') + n, range(toUInt32(toDate(newest - INTERVAL 1 SECOND, 'UTC') - toDate(first, 'UTC') + 1))) AS day
) AS calendar
LEFT JOIN
(
    SELECT level, id, phase, toDate(start, 'UTC') AS day, count() AS quarters, sum(coverage) AS covered, countIf(estimated) AS estimated
    FROM v_quarter_hours
    GROUP BY level, id, phase, day
) AS present
    ON present.level = calendar.level AND present.id = calendar.id AND present.phase = calendar.phase AND present.day = calendar.day
COMMENT 'For each asset and group and UTC day from its first quarter hour on: quarters expected, present and missing, and the share of time backed by readings';

CREATE OR REPLACE VIEW v_forecast_in_force AS
SELECT
    scope_id,
    greatest(piece.1, effective_at) AS start,
    if(replaced_at IS NULL, piece.2, least(piece.2, assumeNotNull(replaced_at))) AS end,
    piece.3 AS import_limit_w,
    piece.4 AS import_kind,
    piece.5 AS import_cause,
    piece.6 AS export_limit_w,
    piece.7 AS export_kind,
    piece.8 AS export_cause,
    piece.9 AS phase,
    revision,
    event_id
FROM
(
    SELECT
        scope_id, event_id, revision, effective_at,
        minOrNull(effective_at) OVER (
            PARTITION BY scope_id ORDER BY life, revision, version
            ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING
        ) AS replaced_at,
        arrayZip(
            `pieces.start`, `pieces.end`, `pieces.import_limit_w`, `pieces.import_kind`, `pieces.import_cause`,
            `pieces.export_limit_w`, `pieces.export_kind`, `pieces.export_cause`, `pieces.phase`
        ) AS pieces
    FROM envelopes FINAL
)
ARRAY JOIN pieces AS piece
WHERE start < end
COMMENT 'For each scope: which limits held when, after every later envelope has had its say. At an instant t: start <= t AND t < end';

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
                    (SELECT max(at) FROM v_connection_events),
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
