-- title: Where quarter hours are missing
-- words: For each asset and group and UTC day: quarters expected and missing, worst first. A day still running counts as far as it has come.
-- param: days UInt32 = 14 | how many days back from the newest quarter hour
-- param: at_least UInt32 = 0 | only days with at least so many missing
SELECT level, id, phase, day, expected, quarters, missing, round(coverage, 3) AS coverage, estimated
FROM v_completeness
WHERE day > (SELECT max(day) FROM v_completeness) - {days:UInt32} AND missing >= {at_least:UInt32}
ORDER BY missing DESC, day DESC, level, id, phase
