-- title: Messages to partners and where each stands
-- words: The newest first; `outcome` is empty while nothing has been tried.
-- param: partner String = '' | one partner, or empty for all
-- param: outcome String = '' | such as REFUSED, or empty for all
-- param: rows UInt32 = 100 | at most so many
SELECT
    message.partner_id AS partner_id,
    message.at AS at,
    message.action AS action,
    message.group_id AS group_id,
    delivery.outcome AS outcome,
    delivery.status AS status,
    delivery.attempt AS attempt,
    delivery.words AS words,
    message.message_id AS message_id
FROM v_outbound_messages AS message
LEFT JOIN (SELECT * FROM v_deliveries WHERE is_last) AS delivery ON delivery.message_id = message.message_id
WHERE ({partner:String} = '' OR partner_id = {partner:String}) AND ({outcome:String} = '' OR delivery.outcome = {outcome:String})
ORDER BY at DESC, message_id
LIMIT {rows:UInt32}
