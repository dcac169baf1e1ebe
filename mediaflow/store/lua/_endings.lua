-- Endings: a session becomes a tombstone, a call without live sessions is kept for the retention and then vanishes.

local function finish(call, session_id, session_key, state, reason, log_reason)
  local entry = call.sessions[session_id]
  entry.state, entry.ended_ms = state, wall_ms
  local member = call.id .. '/' .. session_id
  add('HSET', session_key, 'end_reason', reason, 'ended_at', integer(wall_ms))
  put(call, session_id, entry)
  let_expire('PEXPIRE', session_key, RETENTION_MS)
  remove('ZREM', LEASES, member)
  remove('ZREM', PENDING, member)
  log('session.' .. state, call.id, session_id, entry.owner, entry.fence, log_reason or reason)
end

-- A session that a younger one outlived must not come back by readoption: the call remembers which one ended it.
local function mark_ended(call, session_id)
  if bytes_precede(call.ended_by, session_id) then
    call.ended_by = session_id
    record('HSET', call.key, 'ended_by', session_id)
  end
end

local function close_if_over(call, idempotency_key)
  for _, entry in pairs(call.sessions) do
    if LIVE[entry.state] then return end
  end
  let_expire('ZADD', ENDED, integer(wall_ms + RETENTION_MS), call.id)
  let_expire('PEXPIRE', call.key, RETENTION_MS)
  let_expire('PEXPIRE', idempotency_key, RETENTION_MS)
end
