-- What analysts read: each table without replays and superseded rows, and without the bookkeeping of versions.

CREATE OR REPLACE VIEW v_telemetry AS
SELECT * EXCEPT (version) FROM telemetry FINAL
COMMENT 'Readings, one for each asset, phase and instant: the first that came, BAD ones yielding to others';

CREATE OR REPLACE VIEW v_late_telemetry AS
SELECT * EXCEPT (version) FROM late_telemetry FINAL
COMMENT 'Readings that came after the correction horizon of their quarter hour';

CREATE OR REPLACE VIEW v_quarter_hours AS
SELECT * EXCEPT (version, provisional, last_minute_w) FROM quarter_hours FINAL WHERE revision > 0
COMMENT 'Final quarter hours, the highest revision of each. Quarters still open are in v_open_quarter_hours';

CREATE OR REPLACE VIEW v_open_quarter_hours AS
SELECT * EXCEPT (version, revision) FROM quarter_hours FINAL WHERE revision = 0
COMMENT 'Quarter hours of which only a provisional row is known, as of their last minute';

CREATE OR REPLACE VIEW v_inbound_messages AS
SELECT * EXCEPT (version) FROM inbound_messages FINAL
COMMENT 'Messages partners sent';

CREATE OR REPLACE VIEW v_forecast_blocks AS
SELECT * EXCEPT (version) FROM forecast_blocks FINAL
COMMENT 'Blocks of capacity forecasts as received';

CREATE OR REPLACE VIEW v_outbound_messages AS
SELECT * EXCEPT (version) FROM outbound_messages FINAL
COMMENT 'Messages owed to partners; what became of them is in v_deliveries';

CREATE OR REPLACE VIEW v_deliveries AS
SELECT
    * EXCEPT (version),
    version = max(version) OVER (PARTITION BY message_id) AS is_last
FROM deliveries FINAL
COMMENT 'Attempts to deliver messages; the one with is_last says where its message stands';

CREATE OR REPLACE VIEW v_connections AS
SELECT * EXCEPT (version) FROM connections FINAL
COMMENT 'Where each connection stood';

CREATE OR REPLACE VIEW v_connection_events AS
SELECT * EXCEPT (version) FROM connection_events FINAL
COMMENT 'Transitions, exchanges and oddities';

CREATE OR REPLACE VIEW v_commands AS
SELECT * EXCEPT (version) FROM commands FINAL
COMMENT 'What operators asked for';

CREATE OR REPLACE VIEW v_config_changes AS
SELECT * EXCEPT (version) FROM config_changes FINAL
COMMENT 'Changes of the configuration';

CREATE OR REPLACE VIEW v_dead_letters AS
SELECT * EXCEPT (version, life) FROM dead_letters FINAL
COMMENT 'What could not be used, and why';

CREATE OR REPLACE VIEW v_envelopes AS
SELECT
    scope_id, revision, effective_at, number AS piece, start, end, import_limit_w, export_limit_w, phase, cause, kind,
    import_cause, import_kind, export_cause, export_kind, event_id, at, cause_id, inserted_at
FROM envelopes FINAL
ARRAY JOIN
    arrayEnumerate(`pieces.start`) AS number,
    `pieces.start` AS start,
    `pieces.end` AS end,
    `pieces.import_limit_w` AS import_limit_w,
    `pieces.export_limit_w` AS export_limit_w,
    `pieces.phase` AS phase,
    `pieces.cause` AS cause,
    `pieces.kind` AS kind,
    `pieces.import_cause` AS import_cause,
    `pieces.import_kind` AS import_kind,
    `pieces.export_cause` AS export_cause,
    `pieces.export_kind` AS export_kind
COMMENT 'Operating envelopes as stated, a row for each piece; what held in the end is v_forecast_in_force';

CREATE OR REPLACE VIEW v_circuit_capacity AS
SELECT * EXCEPT (version) FROM circuit_capacity FINAL
COMMENT 'Changes of the circuits'' available capacity';

CREATE OR REPLACE VIEW v_verdicts AS
SELECT * EXCEPT (version, at_risk, projected_w) FROM verdicts FINAL WHERE NOT at_risk
COMMENT 'How each group quarter stood against its limit, as last judged';

CREATE OR REPLACE VIEW v_at_risk AS
SELECT * EXCEPT (version, at_risk, allowed_wh, verdict, revision) FROM verdicts FINAL WHERE at_risk
COMMENT 'The last projection of each group quarter that was about to exceed its limit';

CREATE OR REPLACE VIEW v_breaches AS
SELECT * EXCEPT (version) FROM breaches FINAL
COMMENT 'Each breach as it stands; one in state VOIDED was taken back by a correction';
