-- title: How well groups keep to their limits, by day
-- words: Quarters within, breached and unknown; the share leaves out what could not be judged.
-- param: group String = '' | one group, or empty for all
-- param: days UInt32 = 30 | how many days back from the newest verdict
SELECT group_id, day, direction, judged, within, breached, unknown, round(share_within, 4) AS share_within, round(energy_over_wh / 1000, 3) AS over_kwh
FROM v_compliance
WHERE ({group:String} = '' OR group_id = {group:String})
    AND day > (SELECT max(day) FROM v_compliance) - {days:UInt32}
ORDER BY day DESC, group_id, direction
