-- Read a call's ownership records and how long each lease still runs.
-- KEYS: partition call
-- ARGV: partition call_id
-- RETURNS: for each session: session_id state owner incarnation fence ended_ms lease_remaining_ms
-- USES: partition time plan seniority records

local call = read_call(KEYS[8], ARGV[6])
local results = {}
for session_id, entry in pairs(call.sessions) do
  local expires_ms = redis.call('ZSCORE', LEASES, call.id .. '/' .. session_id)
  local remaining_ms = expires_ms and math.max(0, tonumber(expires_ms) - lease_ms) or 0
  results[#results + 1] = {session_id, entry.state, entry.owner, entry.incarnation, integer(entry.fence),
    integer(entry.ended_ms), integer(remaining_ms)}
end
return results
