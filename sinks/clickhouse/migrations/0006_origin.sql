-- Rows of quarter hours say how they came: from the running flow, from a repair, or with data loaded from before the
-- system's time. The views that show them are made again, since a view keeps the columns it was made with.

ALTER TABLE quarter_hours
    ADD COLUMN IF NOT EXISTS origin LowCardinality(String) DEFAULT 'LIVE' COMMENT 'LIVE, REPAIR (computed again from the readings) or BACKFILL (from before the system''s time: neither reported nor judged)' AFTER last_minute_w;

CREATE OR REPLACE VIEW v_quarter_hours AS
SELECT * EXCEPT (version, provisional, last_minute_w) FROM quarter_hours FINAL WHERE revision > 0
COMMENT 'Final quarter hours, the highest revision of each. Quarters still open are in v_open_quarter_hours';

CREATE OR REPLACE VIEW v_open_quarter_hours AS
SELECT * EXCEPT (version, revision, origin) FROM quarter_hours FINAL WHERE revision = 0
COMMENT 'Quarter hours of which only a provisional row is known, as of their last minute';
