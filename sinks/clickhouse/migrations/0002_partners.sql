-- What passed between us and the partners. Tables whose facts carry no instant that is the same on every run are
-- keyed by their event alone and have no partitions: a partition key must be a function of the sorting key.

CREATE TABLE IF NOT EXISTS inbound_messages
(
    partner_id LowCardinality(String) COMMENT 'Who sent it',
    received_at DateTime64(3, 'UTC') COMMENT 'When it was received' CODEC(DoubleDelta, ZSTD(1)),
    event_id String COMMENT 'Identity of the fact' CODEC(ZSTD(1)),
    action LowCardinality(String) COMMENT 'The OSCP message, such as UpdateGroupCapacityForecast',
    method LowCardinality(String) COMMENT 'The HTTP method',
    request_id String COMMENT 'X-Request-ID' CODEC(ZSTD(1)),
    correlation_id Nullable(String) COMMENT 'X-Correlation-ID' CODEC(ZSTD(1)),
    group_id LowCardinality(Nullable(String)) COMMENT 'The group it is about',
    body String COMMENT 'The JSON as validated; tokens are left out' CODEC(ZSTD(1)),
    body_digest String COMMENT 'SHA-256 of the body as it came' CODEC(ZSTD(1)),
    at DateTime64(3, 'UTC') COMMENT 'When it was stated, by the clock of the installation' CODEC(DoubleDelta, ZSTD(1)),
    cause_id Nullable(String) COMMENT 'What made it' CODEC(ZSTD(1)),
    version UInt64 COMMENT 'Rises with the position in the topic',
    inserted_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When it came into the history (wall time of the store)'
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYear(received_at)
ORDER BY (partner_id, received_at, event_id)
TTL toDateTime(inserted_at) + INTERVAL 2 YEAR
SETTINGS non_replicated_deduplication_window = 1000, old_parts_lifetime = 60, max_cleanup_delay_period = 30
COMMENT 'Every message a partner sent. Kept 2 years. Read v_inbound_messages';

CREATE TABLE IF NOT EXISTS forecast_blocks
(
    group_id LowCardinality(String) COMMENT 'The group the forecast is for',
    type LowCardinality(String) COMMENT 'CONSUMPTION, GENERATION, FALLBACK_CONSUMPTION, FALLBACK_GENERATION or OPTIMUM',
    received_at DateTime64(3, 'UTC') COMMENT 'When the forecast was received' CODEC(DoubleDelta, ZSTD(1)),
    event_id String COMMENT 'The inbound message it came in' CODEC(ZSTD(1)),
    block UInt32 COMMENT 'Place of the block in the forecast, from 0',
    partner_id LowCardinality(String) COMMENT 'Who sent it',
    request_id String COMMENT 'X-Request-ID of the forecast: what causes refer to' CODEC(ZSTD(1)),
    start DateTime64(3, 'UTC') COMMENT 'Start of the block' CODEC(DoubleDelta, ZSTD(1)),
    end DateTime64(3, 'UTC') COMMENT 'End of the block, not part of it' CODEC(DoubleDelta, ZSTD(1)),
    phase LowCardinality(String) COMMENT 'Phase as received',
    capacity Float64 COMMENT 'Capacity as received, in `unit`',
    unit LowCardinality(String) COMMENT 'Unit as received: A, W, KW, WH or KWH',
    limit_w Nullable(Float64) COMMENT 'The capacity as mean power in W; not stated for amperes, which need the voltage of the scope',
    version UInt64 COMMENT 'Rises with the position in the topic',
    inserted_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When it came into the history (wall time of the store)'
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYear(received_at)
ORDER BY (group_id, type, received_at, event_id, block)
TTL toDateTime(inserted_at) + INTERVAL 2 YEAR
SETTINGS non_replicated_deduplication_window = 1000, old_parts_lifetime = 60, max_cleanup_delay_period = 30
COMMENT 'The blocks of every capacity forecast as received. Kept 2 years. Read v_forecast_blocks; what was in force is v_forecast_in_force';

CREATE TABLE IF NOT EXISTS outbound_messages
(
    partner_id LowCardinality(String) COMMENT 'Who is owed it',
    message_id String COMMENT 'X-Request-ID of every attempt' CODEC(ZSTD(1)),
    action LowCardinality(String) COMMENT 'The OSCP message, such as UpdateAssetMeasurements',
    method LowCardinality(String) COMMENT 'The HTTP method',
    group_id LowCardinality(Nullable(String)) COMMENT 'The group it is about',
    correlation_id Nullable(String) COMMENT 'X-Correlation-ID' CODEC(ZSTD(1)),
    body String COMMENT 'The JSON; tokens are left out' CODEC(ZSTD(1)),
    not_before DateTime64(3, 'UTC') COMMENT 'Not to be sent earlier',
    expires_at DateTime64(3, 'UTC') COMMENT 'Not to be sent later',
    event_id String COMMENT 'Identity of the fact' CODEC(ZSTD(1)),
    at DateTime64(3, 'UTC') COMMENT 'When it was stated, by the clock of the installation',
    cause_id Nullable(String) COMMENT 'What made it' CODEC(ZSTD(1)),
    version UInt64 COMMENT 'Rises with the position in the topic',
    inserted_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When it came into the history (wall time of the store)'
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (partner_id, message_id)
TTL toDateTime(inserted_at) + INTERVAL 2 YEAR
SETTINGS non_replicated_deduplication_window = 1000, old_parts_lifetime = 60, max_cleanup_delay_period = 30
COMMENT 'Every message owed to a partner. Kept 2 years. Read v_outbound_messages';

CREATE TABLE IF NOT EXISTS deliveries
(
    message_id String COMMENT 'The outbound message' CODEC(ZSTD(1)),
    event_id String COMMENT 'Identity of the fact' CODEC(ZSTD(1)),
    partner_id LowCardinality(String) COMMENT 'Who is owed it',
    action LowCardinality(String) COMMENT 'The OSCP message',
    group_id LowCardinality(Nullable(String)) COMMENT 'The group it is about',
    correlation_id Nullable(String) COMMENT 'X-Correlation-ID' CODEC(ZSTD(1)),
    attempt Int64 COMMENT 'Which attempt, from 1',
    outcome LowCardinality(String) COMMENT 'DELIVERED, RETRY, HELD, REFUSED, EXPIRED, PARKED or DROPPED',
    status Nullable(Int64) COMMENT 'The HTTP status of the answer',
    words String COMMENT 'What was said' CODEC(ZSTD(1)),
    duration_ms Int64 COMMENT 'How long the attempt took, wall ms',
    at DateTime64(3, 'UTC') COMMENT 'When it was stated, by the clock of the installation',
    cause_id Nullable(String) COMMENT 'What made it' CODEC(ZSTD(1)),
    version UInt64 COMMENT 'Rises with the position in the topic: the highest of a message says where it stands',
    inserted_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When it came into the history (wall time of the store)'
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (message_id, event_id)
TTL toDateTime(inserted_at) + INTERVAL 2 YEAR
SETTINGS non_replicated_deduplication_window = 1000, old_parts_lifetime = 60, max_cleanup_delay_period = 30
COMMENT 'Every attempt to deliver a message, and what became of it. Kept 2 years. Read v_deliveries';

CREATE TABLE IF NOT EXISTS connections
(
    partner_id LowCardinality(String) COMMENT 'The partner',
    since DateTime64(3, 'UTC') COMMENT 'When it came into this state' CODEC(DoubleDelta, ZSTD(1)),
    event_id String COMMENT 'Identity of the fact' CODEC(ZSTD(1)),
    state LowCardinality(String) COMMENT 'The state of the connection, such as ONLINE or OFFLINE',
    words String COMMENT 'Why, for a person' CODEC(ZSTD(1)),
    peer_version Nullable(String) COMMENT 'OSCP version agreed',
    peer_required_heartbeat_s Nullable(Float64) COMMENT 'Heartbeat interval the partner asks of us, s',
    our_required_heartbeat_s Nullable(Float64) COMMENT 'Heartbeat interval we ask of the partner, s',
    liveness_deadline Nullable(DateTime64(3, 'UTC')) COMMENT 'When silence means OFFLINE',
    withheld_since Nullable(DateTime64(3, 'UTC')) COMMENT 'Since when measurements are withheld',
    at DateTime64(3, 'UTC') COMMENT 'When it was stated, by the clock of the installation',
    cause_id Nullable(String) COMMENT 'What made it' CODEC(ZSTD(1)),
    version UInt64 COMMENT 'Rises with the position in the topic',
    inserted_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When it came into the history (wall time of the store)'
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYear(since)
ORDER BY (partner_id, since, event_id)
TTL toDateTime(inserted_at) + INTERVAL 2 YEAR
SETTINGS non_replicated_deduplication_window = 1000, old_parts_lifetime = 60, max_cleanup_delay_period = 30
COMMENT 'Where each connection stood, without credentials. Kept 2 years. Read v_connections';

CREATE TABLE IF NOT EXISTS connection_events
(
    subject_kind LowCardinality(String) COMMENT 'PARTNER, SCOPE, CIRCUIT, ASSET or SYSTEM',
    subject_id LowCardinality(String) COMMENT 'What it is about',
    event_id String COMMENT 'Identity of the fact' CODEC(ZSTD(1)),
    kind LowCardinality(String) COMMENT 'What kind of event',
    severity LowCardinality(String) COMMENT 'INFO, WARNING or ALARM',
    words String COMMENT 'What happened, for a person' CODEC(ZSTD(1)),
    data String COMMENT 'Details as a JSON object' CODEC(ZSTD(1)),
    at DateTime64(3, 'UTC') COMMENT 'When it was stated, by the clock of the installation',
    cause_id Nullable(String) COMMENT 'What made it' CODEC(ZSTD(1)),
    version UInt64 COMMENT 'Rises with the position in the topic',
    inserted_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When it came into the history (wall time of the store)'
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (subject_kind, subject_id, event_id)
TTL toDateTime(inserted_at) + INTERVAL 2 YEAR
SETTINGS non_replicated_deduplication_window = 1000, old_parts_lifetime = 60, max_cleanup_delay_period = 30
COMMENT 'Every transition, exchange and oddity a person may want to read. Kept 2 years. Read v_connection_events';

CREATE TABLE IF NOT EXISTS commands
(
    partner_id LowCardinality(String) COMMENT 'The partner it concerns',
    event_id String COMMENT 'Identity of the fact' CODEC(ZSTD(1)),
    kind LowCardinality(String) COMMENT 'What was asked for',
    by String COMMENT 'Who asked',
    group_id LowCardinality(Nullable(String)) COMMENT 'The group it is about',
    payload String COMMENT 'Details as a JSON object; tokens are left out' CODEC(ZSTD(1)),
    at DateTime64(3, 'UTC') COMMENT 'When it was stated, by the clock of the installation',
    cause_id Nullable(String) COMMENT 'What made it' CODEC(ZSTD(1)),
    version UInt64 COMMENT 'Rises with the position in the topic',
    inserted_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When it came into the history (wall time of the store)'
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (partner_id, event_id)
TTL toDateTime(inserted_at) + INTERVAL 2 YEAR
SETTINGS non_replicated_deduplication_window = 1000, old_parts_lifetime = 60, max_cleanup_delay_period = 30
COMMENT 'What operators asked for. Kept 2 years. Read v_commands';

CREATE TABLE IF NOT EXISTS config_changes
(
    kind LowCardinality(String) COMMENT 'circuits, scopes, assets, partners, groups or timing',
    id String COMMENT 'Which item',
    event_id String COMMENT 'Identity of the fact' CODEC(ZSTD(1)),
    body Nullable(String) COMMENT 'The item as JSON from then on; NULL when it was removed' CODEC(ZSTD(1)),
    revision Int64 COMMENT 'Revision of the item',
    by String COMMENT 'Who changed it',
    at DateTime64(3, 'UTC') COMMENT 'When it was stated, by the clock of the installation',
    cause_id Nullable(String) COMMENT 'What made it' CODEC(ZSTD(1)),
    version UInt64 COMMENT 'Rises with the position in the topic',
    inserted_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When it came into the history (wall time of the store)'
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (kind, id, event_id)
SETTINGS non_replicated_deduplication_window = 1000, old_parts_lifetime = 60, max_cleanup_delay_period = 30
COMMENT 'Every change of the configuration, with who and when. Kept for ever. Read v_config_changes';

CREATE TABLE IF NOT EXISTS dead_letters
(
    topic LowCardinality(String) COMMENT 'Where it was read',
    life UInt16 COMMENT 'The life of the broker: positions mean nothing in another',
    event_id String COMMENT 'Identity of the fact' CODEC(ZSTD(1)),
    partition Int32 COMMENT 'Partition it was read from',
    offset Int64 COMMENT 'Its offset there',
    reason String COMMENT 'What was wrong' CODEC(ZSTD(1)),
    subject String COMMENT 'The asset or partner concerned, where known',
    count Int64 COMMENT 'How many of the kind the letter stands for',
    raw String COMMENT 'The bytes, of the first where there are several' CODEC(ZSTD(1)),
    at DateTime64(3, 'UTC') COMMENT 'When it was stated, by the clock of the installation',
    cause_id Nullable(String) COMMENT 'What made it' CODEC(ZSTD(1)),
    version UInt64 COMMENT 'Rises with the position in the topic',
    inserted_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When it came into the history (wall time of the store)'
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (topic, life, event_id)
TTL toDateTime(inserted_at) + INTERVAL 2 YEAR
SETTINGS non_replicated_deduplication_window = 1000, old_parts_lifetime = 60, max_cleanup_delay_period = 30
COMMENT 'What could not be used, and why. Kept 2 years. Read v_dead_letters';
