-- Limits, what circuits were told, and how scopes kept to them.

CREATE TABLE IF NOT EXISTS envelopes
(
    scope_id LowCardinality(String) COMMENT 'The microgrid',
    life UInt16 COMMENT 'The life of the broker it was stated in: revisions begin again in each',
    event_id String COMMENT 'Identity of the fact' CODEC(ZSTD(1)),
    revision Int64 COMMENT 'Counts the envelopes of the scope',
    effective_at DateTime64(3, 'UTC') COMMENT 'From when it replaces every earlier one' CODEC(DoubleDelta, ZSTD(1)),
    `pieces.start` Array(DateTime64(3, 'UTC')) COMMENT 'Start of each piece' CODEC(ZSTD(1)),
    `pieces.end` Array(DateTime64(3, 'UTC')) COMMENT 'End of each piece, not part of it' CODEC(ZSTD(1)),
    `pieces.import_limit_w` Array(Nullable(Float64)) COMMENT 'Import limit of each piece, W; NULL where not known' CODEC(ZSTD(1)),
    `pieces.export_limit_w` Array(Nullable(Float64)) COMMENT 'Export limit of each piece, W; NULL where not known' CODEC(ZSTD(1)),
    `pieces.phase` Array(LowCardinality(String)) COMMENT 'Phase of each piece',
    `pieces.cause` Array(Nullable(String)) COMMENT 'What each piece comes from' CODEC(ZSTD(1)),
    `pieces.kind` Array(LowCardinality(String)) COMMENT 'Why it holds: FORECAST, FALLBACK, HELD, SAFE, OPERATOR or UNKNOWN',
    `pieces.import_cause` Array(Nullable(String)) COMMENT 'What the import limit comes from' CODEC(ZSTD(1)),
    `pieces.import_kind` Array(LowCardinality(String)) COMMENT 'Why the import limit holds',
    `pieces.export_cause` Array(Nullable(String)) COMMENT 'What the export limit comes from' CODEC(ZSTD(1)),
    `pieces.export_kind` Array(LowCardinality(String)) COMMENT 'Why the export limit holds',
    at DateTime64(3, 'UTC') COMMENT 'When it was stated, by the clock of the installation',
    cause_id Nullable(String) COMMENT 'What made it' CODEC(ZSTD(1)),
    version UInt64 COMMENT 'Rises with the position in the topic',
    inserted_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When it came into the history (wall time of the store)'
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (scope_id, life, event_id)
TTL toDateTime(inserted_at) + INTERVAL 10 YEAR
SETTINGS non_replicated_deduplication_window = 1000, old_parts_lifetime = 60, max_cleanup_delay_period = 30
COMMENT 'Operating envelopes as stated, each with its pieces. Kept 10 years. Read v_envelopes or v_forecast_in_force';

CREATE TABLE IF NOT EXISTS circuit_capacity
(
    circuit_id LowCardinality(String) COMMENT 'The grid-connection circuit',
    event_id String COMMENT 'Identity of the fact, and the idempotency key the legacy platform saw' CODEC(ZSTD(1)),
    scope_id LowCardinality(String) COMMENT 'The microgrid behind it',
    available_import_w Nullable(Float64) COMMENT 'Available import capacity, W',
    available_export_w Nullable(Float64) COMMENT 'Available export capacity, W',
    previous_import_w Nullable(Float64) COMMENT 'The value before, W',
    previous_export_w Nullable(Float64) COMMENT 'The value before, W',
    effective_from DateTime64(3, 'UTC') COMMENT 'From when it holds' CODEC(DoubleDelta, ZSTD(1)),
    cause Nullable(String) COMMENT 'What it comes from' CODEC(ZSTD(1)),
    kind LowCardinality(String) COMMENT 'Why it holds: FORECAST, FALLBACK, HELD, SAFE, OPERATOR or UNKNOWN',
    import_kind LowCardinality(String) COMMENT 'Why the import value holds; UNKNOWN where it is only kept',
    export_kind LowCardinality(String) COMMENT 'Why the export value holds; UNKNOWN where it is only kept',
    at DateTime64(3, 'UTC') COMMENT 'When it was stated, by the clock of the installation',
    cause_id Nullable(String) COMMENT 'What made it' CODEC(ZSTD(1)),
    version UInt64 COMMENT 'Rises with the position in the topic',
    inserted_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When it came into the history (wall time of the store)'
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (circuit_id, event_id)
TTL toDateTime(inserted_at) + INTERVAL 10 YEAR
SETTINGS non_replicated_deduplication_window = 1000, old_parts_lifetime = 60, max_cleanup_delay_period = 30
COMMENT 'Every change of a circuit''s available capacity. Kept 10 years. Read v_circuit_capacity';

CREATE TABLE IF NOT EXISTS verdicts
(
    group_id LowCardinality(String) COMMENT 'The group judged',
    quarter DateTime64(3, 'UTC') COMMENT 'Start of the quarter hour' CODEC(DoubleDelta, ZSTD(1)),
    direction LowCardinality(String) COMMENT 'IMPORT or EXPORT',
    at_risk Bool COMMENT 'Whether it is a projection inside the quarter rather than a judgement',
    partner_id LowCardinality(String) COMMENT 'Whose group',
    scope_id LowCardinality(String) COMMENT 'The microgrid',
    verdict LowCardinality(String) COMMENT 'WITHIN, BREACHED or UNKNOWN',
    used_wh Float64 COMMENT 'Energy used in that direction, Wh',
    allowed_wh Nullable(Float64) COMMENT 'Energy the limit allowed, Wh; NULL where it was not known throughout',
    reason String COMMENT 'Why, for a person' CODEC(ZSTD(1)),
    forecasts Array(String) COMMENT 'Causes of the limits concerned' CODEC(ZSTD(1)),
    reportable_forecasts Array(String) COMMENT 'Those of them the partner may hear of' CODEC(ZSTD(1)),
    revision Int64 COMMENT 'The highest holds',
    projected_w Nullable(Float64) COMMENT 'Projected mean power of the quarter, W',
    event_id String COMMENT 'Identity of the fact' CODEC(ZSTD(1)),
    at DateTime64(3, 'UTC') COMMENT 'When it was stated, by the clock of the installation',
    cause_id Nullable(String) COMMENT 'What made it' CODEC(ZSTD(1)),
    version UInt128 COMMENT 'Revision, then position in the topic: the highest holds',
    inserted_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When it came into the history (wall time of the store)'
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYear(quarter)
ORDER BY (group_id, quarter, direction, at_risk)
TTL toDateTime(inserted_at) + INTERVAL 10 YEAR
SETTINGS non_replicated_deduplication_window = 1000, old_parts_lifetime = 60, max_cleanup_delay_period = 30
COMMENT 'How each group quarter stood against its limit, and the last projection before its end. Kept 10 years. Read v_verdicts';

CREATE TABLE IF NOT EXISTS breaches
(
    breach_id String COMMENT 'Identity of the breach' CODEC(ZSTD(1)),
    partner_id LowCardinality(String) COMMENT 'Whose group',
    group_id LowCardinality(String) COMMENT 'The group',
    scope_id LowCardinality(String) COMMENT 'The microgrid',
    direction LowCardinality(String) COMMENT 'IMPORT or EXPORT',
    state LowCardinality(String) COMMENT 'OPENED, CONTINUED, CLOSED or VOIDED (a correction took it back)',
    first_quarter DateTime64(3, 'UTC') COMMENT 'First breached quarter hour',
    last_quarter DateTime64(3, 'UTC') COMMENT 'Last breached quarter hour',
    quarters Int64 COMMENT 'How many quarter hours were breached',
    peak_mean_w Float64 COMMENT 'Highest mean power of a quarter, W',
    energy_over_wh Float64 COMMENT 'Energy above the allowance, Wh',
    forecasts Array(String) COMMENT 'Causes of the limits concerned' CODEC(ZSTD(1)),
    revision Int64 COMMENT 'The highest holds',
    event_id String COMMENT 'Identity of the fact' CODEC(ZSTD(1)),
    at DateTime64(3, 'UTC') COMMENT 'When it was stated, by the clock of the installation',
    cause_id Nullable(String) COMMENT 'What made it' CODEC(ZSTD(1)),
    version UInt128 COMMENT 'Revision, then position in the topic: the highest holds',
    inserted_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When it came into the history (wall time of the store)'
)
ENGINE = ReplacingMergeTree(version)
ORDER BY breach_id
TTL toDateTime(inserted_at) + INTERVAL 10 YEAR
SETTINGS non_replicated_deduplication_window = 1000, old_parts_lifetime = 60, max_cleanup_delay_period = 30
COMMENT 'Consecutive quarter hours outside the envelope, each breach as it stands. Kept 10 years. Read v_breaches';
