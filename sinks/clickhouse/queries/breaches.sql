-- title: Breaches, the latest first
-- words: Each breach as it stands. VOIDED ones were taken back by a correction.
-- param: group String = '' | one group, or empty for all
-- param: state String = '' | OPENED, CONTINUED, CLOSED or VOIDED, or empty for all
SELECT
    group_id,
    direction,
    phase,
    state,
    first_quarter,
    last_quarter,
    quarters,
    round(peak_mean_w / 1000, 3) AS peak_kw,
    round(energy_over_wh / 1000, 3) AS over_kwh,
    forecasts,
    breach_id
FROM v_breaches
WHERE ({group:String} = '' OR group_id = {group:String}) AND ({state:String} = '' OR state = {state:String})
ORDER BY first_quarter DESC, group_id, direction, phase
