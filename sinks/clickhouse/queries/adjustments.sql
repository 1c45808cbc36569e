-- title: Wishes for another capacity and what became of each
-- words: The newest first. ANSWERED ones name the forecast that answers them; EXPIRED ones were not delivered or not answered in time.
-- param: group String = '' | one group, or empty for all
-- param: state String = '' | REQUESTED, DELIVERED, ANSWERED, REFUSED or EXPIRED, or empty for all
SELECT
    partner_id,
    group_id,
    type,
    state,
    by,
    requested_at,
    start,
    until,
    delivered_at,
    answer,
    words,
    message_id
FROM v_adjustments
WHERE ({group:String} = '' OR group_id = {group:String}) AND ({state:String} = '' OR state = {state:String})
ORDER BY requested_at DESC, adjustment_id
