-- title: What each group used, what it was allowed, and what was left
-- words: Each group quarter and direction of the last hours, newest first; mean power in kW.
-- param: group String = '' | one group, or empty for all
-- param: hours UInt32 = 24 | how far back from the newest quarter hour
SELECT
    group_id,
    quarter,
    direction,
    round(used_w / 1000, 3) AS used_kw,
    round(allowed_w / 1000, 3) AS allowed_kw,
    round(headroom_w / 1000, 3) AS headroom_kw,
    verdict,
    round(coverage, 3) AS coverage,
    reason
FROM v_headroom
WHERE ({group:String} = '' OR group_id = {group:String})
    AND quarter > (SELECT max(quarter) FROM v_headroom) - toIntervalHour({hours:UInt32})
ORDER BY quarter DESC, group_id, direction
