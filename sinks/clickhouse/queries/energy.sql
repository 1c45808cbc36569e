-- title: Energy of each asset and group by local day
-- words: Days are calendar days of the time zone: 92, 96 or 100 quarter hours long; `complete` says whether all are there.
-- param: time_zone String = 'Pacific/Auckland' | IANA name
-- param: id String = '' | one asset or group, or empty for all
-- param: days UInt32 = 14 | how many days back from the newest quarter hour
SELECT
    level,
    id,
    toDate(toTimeZone(start, {time_zone:String})) AS day,
    round(sum(import_wh) / 1000, 3) AS import_kwh,
    round(sum(export_wh) / 1000, 3) AS export_kwh,
    count() AS quarters,
    intDiv(
        toUnixTimestamp(toDateTime(toString(day + 1), {time_zone:String})) - toUnixTimestamp(toDateTime(toString(day), {time_zone:String})),
        900
    ) AS of,
    quarters >= of AS complete,
    round(avg(coverage), 3) AS coverage
FROM v_quarter_hours
WHERE phase = 'ALL'
    AND ({id:String} = '' OR id = {id:String})
    AND start > (SELECT max(start) FROM v_quarter_hours) - toIntervalDay({days:UInt32})
GROUP BY level, id, day
ORDER BY day DESC, level, id
