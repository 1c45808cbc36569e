-- Readings and quarter hours. Every table is a ReplacingMergeTree by business key: a replay of any length collapses,
-- and the views read with FINAL, so what analysts see is exact at every moment. Retention counts from inserted_at,
-- the server's wall time: a recording of years ago is kept as long as a reading of today. Merged parts go after a
-- minute rather than eight: blocks of a second would otherwise leave tens of thousands of small files.

CREATE TABLE IF NOT EXISTS incarnations
(
    incarnation String COMMENT 'Name of one life of the broker; a real Kafka cluster has one for ever',
    ordinal UInt16 COMMENT 'Its place in the order of lives: the high bits of row versions',
    inserted_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When the history first met it (wall time of the store)'
)
ENGINE = ReplacingMergeTree
ORDER BY incarnation
COMMENT 'The lives of the broker this history has been filled from';

CREATE TABLE IF NOT EXISTS telemetry
(
    asset_id LowCardinality(String) COMMENT 'The metered resource',
    measured_at DateTime64(3, 'UTC') COMMENT 'When it was measured' CODEC(DoubleDelta, ZSTD(1)),
    phase LowCardinality(String) DEFAULT 'ALL' COMMENT 'ALL, ONE, TWO or THREE',
    quality LowCardinality(String) DEFAULT 'GOOD' COMMENT 'GOOD, ESTIMATED or BAD',
    power_w Nullable(Float64) COMMENT 'Power in W; positive is taken from the grid' CODEC(ZSTD(1)),
    import_wh Nullable(Float64) COMMENT 'Cumulative import register in Wh' CODEC(ZSTD(1)),
    export_wh Nullable(Float64) COMMENT 'Cumulative export register in Wh' CODEC(ZSTD(1)),
    stored_wh Nullable(Float64) COMMENT 'State of charge in Wh' CODEC(ZSTD(1)),
    version UInt64 COMMENT 'Falls with the position in the topic, so that the first of two readings of one identity stays; BAD ones yield' CODEC(Delta, ZSTD(1)),
    inserted_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When it came into the history (wall time of the store)' CODEC(DoubleDelta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(measured_at)
ORDER BY (asset_id, measured_at, phase)
TTL toDateTime(inserted_at) + INTERVAL 90 DAY
SETTINGS non_replicated_deduplication_window = 1000, old_parts_lifetime = 60, max_cleanup_delay_period = 30
COMMENT 'Every reading that could be decoded, one row for each asset, phase and instant. Kept 90 days. Read v_telemetry';

CREATE TABLE IF NOT EXISTS late_telemetry
(
    asset_id LowCardinality(String) COMMENT 'The metered resource',
    measured_at DateTime64(3, 'UTC') COMMENT 'When it was measured' CODEC(DoubleDelta, ZSTD(1)),
    phase LowCardinality(String) COMMENT 'ALL, ONE, TWO or THREE',
    quality LowCardinality(String) COMMENT 'GOOD, ESTIMATED or BAD',
    power_w Nullable(Float64) COMMENT 'Power in W; positive is taken from the grid',
    import_wh Nullable(Float64) COMMENT 'Cumulative import register in Wh',
    export_wh Nullable(Float64) COMMENT 'Cumulative export register in Wh',
    stored_wh Nullable(Float64) COMMENT 'State of charge in Wh',
    watermark DateTime64(3, 'UTC') COMMENT 'How far event time was when it came',
    partition Int32 COMMENT 'Partition of derms.telemetry it came from',
    offset Int64 COMMENT 'Its offset there',
    event_id String COMMENT 'Identity of the fact',
    at DateTime64(3, 'UTC') COMMENT 'When it was stated, by the clock of the installation',
    cause_id Nullable(String) COMMENT 'What made it',
    version UInt64 COMMENT 'Rises with the position in the topic',
    inserted_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When it came into the history (wall time of the store)'
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(measured_at)
ORDER BY (asset_id, measured_at, phase, event_id)
TTL toDateTime(inserted_at) + INTERVAL 90 DAY
SETTINGS non_replicated_deduplication_window = 1000, old_parts_lifetime = 60, max_cleanup_delay_period = 30
COMMENT 'Readings that came after the correction horizon of their quarter hour. Kept 90 days. Read v_late_telemetry';

CREATE TABLE IF NOT EXISTS quarter_hours
(
    level LowCardinality(String) COMMENT 'ASSET or GROUP',
    id LowCardinality(String) COMMENT 'The asset or the group',
    start DateTime64(3, 'UTC') COMMENT 'Start of the quarter hour; it lasts 900 s' CODEC(DoubleDelta, ZSTD(1)),
    phase LowCardinality(String) COMMENT 'ALL, ONE, TWO or THREE',
    scope_id LowCardinality(Nullable(String)) COMMENT 'The microgrid it belongs to, where bound',
    import_wh Float64 COMMENT 'Energy taken from the grid, Wh' CODEC(ZSTD(1)),
    export_wh Float64 COMMENT 'Energy given to the grid, Wh' CODEC(ZSTD(1)),
    net_wh Float64 COMMENT 'Import less export, Wh' CODEC(ZSTD(1)),
    mean_w Float64 COMMENT 'Mean power over the covered time, W' CODEC(ZSTD(1)),
    min_w Nullable(Float64) COMMENT 'Lowest power read, W' CODEC(ZSTD(1)),
    max_w Nullable(Float64) COMMENT 'Highest power read, W' CODEC(ZSTD(1)),
    stored_wh Nullable(Float64) COMMENT 'Last state of charge, Wh' CODEC(ZSTD(1)),
    import_register_wh Nullable(Float64) COMMENT 'Import register at the end, Wh' CODEC(ZSTD(1)),
    export_register_wh Nullable(Float64) COMMENT 'Export register at the end, Wh' CODEC(ZSTD(1)),
    samples Int64 COMMENT 'Distinct readings inside that were not BAD',
    coverage Float64 COMMENT 'Share of the quarter backed by readings, 0..1',
    method LowCardinality(String) COMMENT 'Which way the energy came: REGISTER, POWER, METER or SUM',
    missing_members Int64 COMMENT 'Members of the group without a row',
    estimated Bool COMMENT 'Whether an estimated reading counts in it',
    reset Bool COMMENT 'Whether a register fell in it',
    revision Int64 COMMENT 'From 1, grows with each change of content; 0 while the quarter is open',
    provisional Bool COMMENT 'Whether the quarter was still open',
    last_minute_w Nullable(Float64) COMMENT 'Mean power of the last minute, on provisional rows',
    event_id String COMMENT 'Identity of the fact' CODEC(ZSTD(1)),
    at DateTime64(3, 'UTC') COMMENT 'When it was stated, by the clock of the installation' CODEC(DoubleDelta, ZSTD(1)),
    cause_id Nullable(String) COMMENT 'What made it' CODEC(ZSTD(1)),
    version UInt128 COMMENT 'Revision, then position in the topic: the highest holds',
    inserted_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When it came into the history (wall time of the store)' CODEC(DoubleDelta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(start)
ORDER BY (level, id, start, phase)
TTL toDateTime(inserted_at) + INTERVAL 10 YEAR
SETTINGS non_replicated_deduplication_window = 1000, old_parts_lifetime = 60, max_cleanup_delay_period = 30
COMMENT 'What each quarter hour of each asset and group amounts to. Kept 10 years. Read v_quarter_hours';
