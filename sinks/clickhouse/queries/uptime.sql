-- title: How long each partner's connection was online
-- words: Seconds in each state by UTC day, and the share online.
-- param: days UInt32 = 30 | how many days back from the newest day
SELECT partner_id, day, online_s, offline_s, other_s, round(uptime, 4) AS uptime
FROM v_link_uptime
WHERE day > (SELECT max(day) FROM v_link_uptime) - {days:UInt32}
ORDER BY day DESC, partner_id
