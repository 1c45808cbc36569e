-- title: What passed between us and a partner, request by request
-- words: The newest first. IN are the partner's requests to us, OUT our attempts to deliver to it; no status means no answer came.
-- param: partner String = '' | one partner, or empty for all
-- param: from String = '' | from this UTC instant on, such as 2026-10-20 10:00:00, or empty
-- param: to String = '' | before this UTC instant, or empty
-- param: heartbeats UInt8 = 1 | 0 leaves heartbeats out
-- param: rows UInt32 = 200 | at most so many
SELECT at, partner_id, direction, action, method, url, status, duration_ms, request_id, correlation_id, attempt, outcome, words
FROM v_exchanges
WHERE ({partner:String} = '' OR partner_id = {partner:String})
    AND at >= ifNull(parseDateTime64BestEffortOrNull({from:String}, 3, 'UTC'), toDateTime64(0, 3, 'UTC'))
    AND at < ifNull(parseDateTime64BestEffortOrNull({to:String}, 3, 'UTC'), toDateTime64('2200-01-01 00:00:00', 3, 'UTC'))
    AND ({heartbeats:UInt8} = 1 OR action != 'Heartbeat')
ORDER BY at DESC, event_id
LIMIT {rows:UInt32}
