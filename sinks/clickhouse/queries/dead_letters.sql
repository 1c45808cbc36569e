-- title: What could not be used, and why
-- words: Dead letters by topic, reason and subject, the most first.
-- param: days UInt32 = 30 | how many days back from the newest letter
SELECT topic, reason, subject, sum(count) AS readings_or_messages, count() AS letters, min(at) AS first, max(at) AS last
FROM v_dead_letters
WHERE at > (SELECT max(at) FROM v_dead_letters) - toIntervalDay({days:UInt32})
GROUP BY topic, reason, subject
ORDER BY readings_or_messages DESC, topic, reason, subject
