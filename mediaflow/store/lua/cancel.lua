-- End the named sessions of a call; a session that was made since is left alone.
-- KEYS: partition call idempotency, then the session keys
-- ARGV: partition call_id reason, then the session ids
-- RETURNS: cancelled count; or: unknown (the call is not known)
-- USES: partition time plan log seniority records endings
-- FLAGS: allow-oom

local call_key, idempotency_key, call_id, reason = KEYS[8], KEYS[9], ARGV[6], ARGV[7]

redis.call('HLEN', idempotency_key)
local call = read_call(call_key, call_id)
if next(call.sessions) == nil then return {'unknown'} end
for i = 10, #KEYS do redis.call('HLEN', KEYS[i]) end

local ended = 0
for i = 8, #ARGV do
  local session_id = ARGV[i]
  local entry = call.sessions[session_id]
  if entry and LIVE[entry.state] then
    ended = ended + 1
    finish(call, session_id, KEYS[i + 2], 'cancelled', 'cancelled', reason)
    mark_ended(call, session_id)
    if entry.owner ~= '' then announce('PUBLISH', INBOX .. entry.owner, 'hint ' .. session_id) end
  end
end
if ended > 0 then
  close_if_over(call, idempotency_key)
  record('HSET', CLOCK, 'lease_ms', integer(lease_ms), 'wall_ms', integer(wall_ms))
  carry_out()
end
return {'cancelled', integer(ended)}
