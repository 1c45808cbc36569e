-- title: How fresh the history is
-- words: For each table: rows, the newest event time, and how long ago the last row came in (wall time).
SELECT
    source,
    rows,
    if(rows = 0, NULL, newest) AS newest,
    if(rows = 0, NULL, dateDiff('second', last_row, now64(3, 'UTC'))) AS last_row_s_ago
FROM
(
    SELECT 'telemetry' AS source, count() AS rows, max(measured_at) AS newest, max(inserted_at) AS last_row FROM v_telemetry
    UNION ALL
    SELECT 'quarter_hours', count(), max(start), max(inserted_at) FROM v_quarter_hours
    UNION ALL
    SELECT 'inbound_messages', count(), max(received_at), max(inserted_at) FROM v_inbound_messages
    UNION ALL
    SELECT 'outbound_messages', count(), max(at), max(inserted_at) FROM v_outbound_messages
    UNION ALL
    SELECT 'deliveries', count(), max(at), max(inserted_at) FROM v_deliveries
    UNION ALL
    SELECT 'verdicts', count(), max(quarter), max(inserted_at) FROM v_verdicts
    UNION ALL
    SELECT 'dead_letters', count(), max(at), max(inserted_at) FROM v_dead_letters
)
ORDER BY source
