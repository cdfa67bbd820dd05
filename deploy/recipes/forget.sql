-- Forgets a person: traces and logs that they occur in go, their calls stay in the ledger under the name (forgotten), and every
-- sum stays what it was. {user:String} is the name that stands in the ledger. See docs/operations.md, which says how to run it.

ALTER TABLE otel_logs DELETE
WHERE TraceId IN (SELECT TraceId FROM llm_calls_versions WHERE User = {user:String} OR EndUser = {user:String})
   OR has(mapValues(LogAttributes), {user:String}) OR has(mapValues(ResourceAttributes), {user:String})
SETTINGS mutations_sync = 2;

ALTER TABLE otel_traces DELETE
WHERE TraceId IN (SELECT TraceId FROM llm_calls_versions WHERE User = {user:String} OR EndUser = {user:String})
   OR User = {user:String} OR has(mapValues(SpanAttributes), {user:String}) OR has(mapValues(ResourceAttributes), {user:String})
SETTINGS mutations_sync = 2;

ALTER TABLE llm_findings_versions DELETE
WHERE has(mapValues(Subject), {user:String})
SETTINGS mutations_sync = 2;

-- A name is a part of the key of the sums by hour, which no UPDATE changes: what moved under it moves under the new one.
INSERT INTO llm_costs_hourly_sums
SELECT * REPLACE ('(forgotten)' AS User) FROM llm_costs_hourly_sums AS moved WHERE moved.User = {user:String}
SETTINGS insert_deduplicate = 0;

ALTER TABLE llm_costs_hourly_sums DELETE WHERE User = {user:String}
SETTINGS mutations_sync = 2;

ALTER TABLE llm_calls_versions
UPDATE User = if(User = {user:String}, '(forgotten)', User), EndUser = if(EndUser = {user:String}, '(forgotten)', EndUser)
WHERE User = {user:String} OR EndUser = {user:String}
SETTINGS mutations_sync = 2;
