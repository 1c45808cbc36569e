-- title: What circuits were told
-- words: Changes of the available capacity, the newest first, in kW.
-- param: circuit String = '' | one circuit, or empty for all
-- param: rows UInt32 = 100 | at most so many
SELECT
    circuit_id,
    effective_from,
    round(available_import_w / 1000, 3) AS import_kw,
    round(previous_import_w / 1000, 3) AS import_kw_before,
    round(available_export_w / 1000, 3) AS export_kw,
    round(previous_export_w / 1000, 3) AS export_kw_before,
    kind,
    cause
FROM v_circuit_capacity
WHERE {circuit:String} = '' OR circuit_id = {circuit:String}
ORDER BY effective_from DESC, circuit_id
LIMIT {rows:UInt32}
