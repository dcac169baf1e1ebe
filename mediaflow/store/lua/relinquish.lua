-- Give sessions of one owner up: refuse an assignment, release for another owner, or report that an attempt failed.
-- They have no last owner then, so that a late renewal cannot revive them.
-- KEYS: partition owned, then for each session: call session idempotency
-- ARGV: partition instance incarnation max_attempts, then for each session: fence kind reason delay_ms
-- RETURNS: for each session: written; failed (that was the last attempt); refenced fence; lost; unknown
-- USES: partition batch time plan log seniority records endings
-- FLAGS: allow-oom

local owned, instance, incarnation, max_attempts = KEYS[8], ARGV[6], ARGV[7], tonumber(ARGV[8])
redis.call('SCARD', owned)
local CAUSES = {release = 'handoff', fail = 'retry'}

local function make_pending(call, session_id, entry, delay_ms, reason)
  local member = call.id .. '/' .. session_id
  add('ZADD', PENDING, integer(lease_ms + delay_ms), member)
  entry.state, entry.owner, entry.incarnation, entry.rank, entry.accepted = 'pending', '', '0', '', false
  put(call, session_id, entry)
  remove('ZREM', LEASES, member)
  log('session.pending', call.id, session_id, instance, entry.fence, reason)
end

local function relinquish(call_key, session_key, idempotency_key, fence, kind, reason, delay_ms)
  local call_id, session_id = call_of(call_key), session_of(session_key)
  redis.call('HLEN', idempotency_key)
  local call = read_call(call_key, call_id)
  local entry = call.sessions[session_id]
  if not entry then return {'unknown'} end
  local kept = redis.call('HMGET', session_key, 'failures', 'relinquished', 'cause')
  -- Each fence is given up at most once, so kind and fence name the operation.
  local operation = kind .. ':' .. integer(fence)
  local repeated = kept[2] == operation
  local held = owned_by(entry, instance, incarnation) and entry.fence == fence
  if repeated and not held then
    return {entry.state == 'failed' and 'failed' or 'written'}
  end
  -- A fence that Redis never heard of: it lost writes. The caller readopts, then asks again.
  if entry.fence < fence then return {'unknown'} end
  if not owned_by(entry, instance, incarnation) then return {'lost'} end
  if entry.fence > fence then
    -- A refusal means the very assignment it names; anything else the session, whose new fence the caller missed.
    if kind == 'refuse' then return {'lost'} end
    return {'refenced', integer(entry.fence)}
  end

  remove('SREM', owned, call_id .. '/' .. session_id)
  -- Repeated, and held all the same: an earlier try was cut off, having counted the failure.
  local failures = (tonumber(kept[1]) or 0) + (kind == 'fail' and not repeated and 1 or 0)
  local cause = CAUSES[kind] or kept[3] or ''
  add('HSET', session_key, 'relinquished', operation, 'failures', failures, 'cause', cause)
  -- Whoever refuses has not run it: the owner before him is the one who left it vacant.
  if kind ~= 'refuse' then add('HSET', session_key, 'vacated_at', integer(lease_ms), 'vacated_by', kind) end
  if kind == 'fail' and failures >= max_attempts then
    finish(call, session_id, session_key, 'failed', 'failed', reason)
    close_if_over(call, idempotency_key)
    return {'failed'}
  end
  make_pending(call, session_id, entry, delay_ms, reason)
  return {'written'}
end

local results, waiting = {}, false
for i = 9, #ARGV, 4 do
  local first = 9 + 3 * (i - 9) / 4
  local result = relinquish(KEYS[first], KEYS[first + 1], KEYS[first + 2],
    tonumber(ARGV[i]), ARGV[i + 1], ARGV[i + 2], tonumber(ARGV[i + 3]))
  results[#results + 1] = result
  waiting = waiting or result[1] == 'written'
end
if waiting then announce('PUBLISH', HINTS, 'pending') end
record('HSET', CLOCK, 'lease_ms', integer(lease_ms), 'wall_ms', integer(wall_ms))
carry_out()
return results
