-- Single conductors are judged, too, and what became of a wish for another capacity is kept.

ALTER TABLE verdicts
    ADD COLUMN IF NOT EXISTS phase Enum8('ALL' = 0, 'ONE' = 1, 'TWO' = 2, 'THREE' = 3) COMMENT 'The conductor judged; ALL is the whole connection' AFTER direction,
    MODIFY ORDER BY (group_id, quarter, direction, at_risk, phase);

ALTER TABLE breaches
    ADD COLUMN IF NOT EXISTS phase Enum8('ALL' = 0, 'ONE' = 1, 'TWO' = 2, 'THREE' = 3) COMMENT 'The conductor; ALL is the whole connection' AFTER direction;

CREATE TABLE IF NOT EXISTS adjustments
(
    adjustment_id String COMMENT 'Identity: the id of the command that asked' CODEC(ZSTD(1)),
    partner_id LowCardinality(String) COMMENT 'Who was asked',
    group_id LowCardinality(String) COMMENT 'The group',
    scope_id LowCardinality(String) COMMENT 'The microgrid',
    type LowCardinality(String) COMMENT 'The forecast type asked about',
    state LowCardinality(String) COMMENT 'REQUESTED, DELIVERED, ANSWERED, REFUSED or EXPIRED',
    by String COMMENT 'The operator who asked' CODEC(ZSTD(1)),
    requested_at DateTime64(3, 'UTC') COMMENT 'When it was asked',
    message_id String COMMENT 'X-Request-ID of the message' CODEC(ZSTD(1)),
    start DateTime64(3, 'UTC') COMMENT 'Start of the first block asked for',
    until DateTime64(3, 'UTC') COMMENT 'End of the last block asked for',
    delivered_at Nullable(DateTime64(3, 'UTC')) COMMENT 'When the partner took it; NULL before',
    answer Nullable(String) COMMENT 'X-Request-ID of the forecast that answers it' CODEC(ZSTD(1)),
    words String COMMENT 'Where it stands, for a person' CODEC(ZSTD(1)),
    revision Int64 COMMENT 'The highest holds',
    event_id String COMMENT 'Identity of the fact' CODEC(ZSTD(1)),
    at DateTime64(3, 'UTC') COMMENT 'When it was stated, by the clock of the installation',
    cause_id Nullable(String) COMMENT 'What made it' CODEC(ZSTD(1)),
    version UInt128 COMMENT 'Revision, then position in the topic: the highest holds',
    inserted_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When it came into the history (wall time of the store)'
)
ENGINE = ReplacingMergeTree(version)
ORDER BY adjustment_id
TTL toDateTime(inserted_at) + INTERVAL 10 YEAR
SETTINGS non_replicated_deduplication_window = 1000, old_parts_lifetime = 60, max_cleanup_delay_period = 30
COMMENT 'Wishes for another capacity, each as it stands. Kept 10 years. Read v_adjustments';

CREATE OR REPLACE VIEW v_adjustments AS
SELECT * EXCEPT (version) FROM adjustments FINAL
COMMENT 'Wishes for another capacity, each as it stands';

ALTER TABLE commands
    ADD COLUMN IF NOT EXISTS scope_id Nullable(String) COMMENT 'The scope an operator''s own limit is for' AFTER group_id;

CREATE OR REPLACE VIEW v_commands AS
SELECT * EXCEPT (version) FROM commands FINAL
COMMENT 'What operators asked for';

CREATE OR REPLACE VIEW v_verdicts AS
SELECT * EXCEPT (version, at_risk, projected_w) FROM verdicts FINAL WHERE NOT at_risk
COMMENT 'How each group quarter stood against its limit, as last judged; phase ALL is the whole connection';

CREATE OR REPLACE VIEW v_at_risk AS
SELECT * EXCEPT (version, at_risk, allowed_wh, verdict, revision) FROM verdicts FINAL WHERE at_risk
COMMENT 'The last projection of each group quarter that was about to exceed its limit';

CREATE OR REPLACE VIEW v_breaches AS
SELECT * EXCEPT (version) FROM breaches FINAL
COMMENT 'Each breach as it stands; one in state VOIDED was taken back by a correction';

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
    ON judged.group_id = used.group_id AND judged.quarter = used.quarter AND judged.direction = used.direction AND judged.phase = 'ALL'
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
WHERE phase = 'ALL'
GROUP BY group_id, direction, day
COMMENT 'For each group, direction and UTC day: quarters judged within, breached and unknown; the share counts only what could be judged';
