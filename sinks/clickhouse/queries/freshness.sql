-- title: How fresh the history is
-- words: For each table: rows, the newest event time, and how long ago the last row came in (wall time).
SELECT 'telemetry' AS source, count() AS rows, max(measured_at) AS newest, dateDiff('second', max(inserted_at), now64(3, 'UTC')) AS last_row_s_ago FROM v_telemetry
UNION ALL SELECT 'quarter_hours', count(), max(start), dateDiff('second', max(inserted_at), now64(3, 'UTC')) FROM v_quarter_hours
UNION ALL SELECT 'inbound_messages', count(), max(received_at), dateDiff('second', max(inserted_at), now64(3, 'UTC')) FROM v_inbound_messages
UNION ALL SELECT 'outbound_messages', count(), max(at), dateDiff('second', max(inserted_at), now64(3, 'UTC')) FROM v_outbound_messages
UNION ALL SELECT 'deliveries', count(), max(at), dateDiff('second', max(inserted_at), now64(3, 'UTC')) FROM v_deliveries
UNION ALL SELECT 'verdicts', count(), max(quarter), dateDiff('second', max(inserted_at), now64(3, 'UTC')) FROM v_verdicts
UNION ALL SELECT 'dead_letters', count(), max(at), dateDiff('second', max(inserted_at), now64(3, 'UTC')) FROM v_dead_letters
ORDER BY source
