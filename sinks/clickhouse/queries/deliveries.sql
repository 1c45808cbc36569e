-- title: Deliveries to partners by day and action
-- words: Where each message stands, attempts needed, and how long the last attempt took.
-- param: partner String = '' | one partner, or empty for all
-- param: days UInt32 = 14 | how many days back from the newest delivery
SELECT *
FROM v_delivery_daily
WHERE ({partner:String} = '' OR partner_id = {partner:String})
    AND day > (SELECT max(day) FROM v_delivery_daily) - {days:UInt32}
ORDER BY day DESC, partner_id, action
