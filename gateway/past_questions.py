"""What the history is asked for the pages: analysts' views, parameters bound by name; instants are ms since 1970 UTC."""

from typing import Final

ROWS: Final = """SELECT level, id, scope_id, phase, start, import_wh, export_wh, net_wh, mean_w, samples, coverage, method,
    missing_members, estimated, reset, revision, event_id, at
FROM v_quarter_hours
WHERE level = 'GROUP' AND id = {group:String} AND phase = 'ALL'
    AND start >= fromUnixTimestamp64Milli({start:Int64}, 'UTC')
    AND start < fromUnixTimestamp64Milli({end:Int64}, 'UTC')"""
VERDICTS: Final = """SELECT partner_id, group_id, scope_id, quarter, direction, phase, verdict, used_wh, allowed_wh, reason, forecasts,
    reportable_forecasts, revision, event_id, at
FROM v_verdicts
WHERE group_id = {group:String}
    AND quarter >= fromUnixTimestamp64Milli({start:Int64}, 'UTC')
    AND quarter < fromUnixTimestamp64Milli({end:Int64}, 'UTC')"""
PIECES: Final = """SELECT start, end, import_limit_w, import_kind, import_cause, export_limit_w, export_kind, export_cause, phase,
    if(import_limit_w IS NULL, export_kind, import_kind) AS kind, if(import_limit_w IS NULL, export_cause, import_cause) AS cause
FROM v_forecast_in_force
WHERE scope_id = {scope:String}
    AND start < fromUnixTimestamp64Milli({end:Int64}, 'UTC') AND end > fromUnixTimestamp64Milli({start:Int64}, 'UTC')
ORDER BY start"""
BREACHES: Final = """SELECT breach_id, partner_id, group_id, scope_id, direction, phase, state, first_quarter, last_quarter,
    quarters, peak_mean_w, energy_over_wh, forecasts, revision, event_id, at, cause_id
FROM v_breaches
WHERE scope_id = {scope:String}
    AND first_quarter < fromUnixTimestamp64Milli({end:Int64}, 'UTC')
    AND last_quarter + INTERVAL 15 MINUTE > fromUnixTimestamp64Milli({start:Int64}, 'UTC')"""
EVENTS: Final = """SELECT subject_kind, subject_id, kind, severity, words, event_id, at
FROM v_connection_events
WHERE (subject_kind, subject_id) IN (('SCOPE', {scope:String}), ('CIRCUIT', {circuit:String}))
    AND at >= fromUnixTimestamp64Milli({start:Int64}, 'UTC') AND at < fromUnixTimestamp64Milli({end:Int64}, 'UTC')
ORDER BY at DESC LIMIT {most:UInt32}"""
BREACHES_WISHED: Final = """SELECT breach_id, partner_id, group_id, scope_id, direction, phase, state, first_quarter, last_quarter,
    quarters, peak_mean_w, energy_over_wh, forecasts, revision, event_id, at, cause_id
FROM v_breaches
WHERE ({partner:String} = '' OR partner_id = {partner:String}) AND ({group:String} = '' OR group_id = {group:String})
    AND ({scope:String} = '' OR scope_id = {scope:String}) AND ({direction:String} = '' OR direction = {direction:String})
    AND (empty({states:Array(String)}) OR has({states:Array(String)}, state))
    AND first_quarter < fromUnixTimestamp64Milli({end:Int64}, 'UTC')
    AND last_quarter + INTERVAL 15 MINUTE > fromUnixTimestamp64Milli({start:Int64}, 'UTC')
ORDER BY first_quarter DESC, breach_id LIMIT {most:UInt32}"""
