-- title: Which limits were in force, each quarter hour with the energy beside it
-- words: For each group quarter the limits that held at its start (ASOF join), and what was used.
-- param: scope String = '' | one scope, or empty for all
-- param: hours UInt32 = 24 | how far back from the newest quarter hour
SELECT
    used.id AS group_id,
    used.start AS quarter,
    round(used.import_wh * 4 / 1000, 3) AS import_kw,
    if(used.start < held.end, round(held.import_limit_w / 1000, 3), NULL) AS import_limit_kw,
    round(used.export_wh * 4 / 1000, 3) AS export_kw,
    if(used.start < held.end, round(held.export_limit_w / 1000, 3), NULL) AS export_limit_kw,
    if(used.start < held.end, held.import_kind, 'UNKNOWN') AS import_kind,
    if(used.start < held.end, held.import_cause, NULL) AS import_cause
FROM
(
    SELECT id, ifNull(scope_id, '') AS scope, start, import_wh, export_wh
    FROM v_quarter_hours
    WHERE level = 'GROUP' AND start > (SELECT max(start) FROM v_quarter_hours) - toIntervalHour({hours:UInt32})
) AS used
ASOF LEFT JOIN v_forecast_in_force AS held ON held.scope_id = used.scope AND held.start <= used.start
WHERE {scope:String} = '' OR used.scope = {scope:String}
ORDER BY quarter DESC, group_id
