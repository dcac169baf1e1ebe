-- Take up assignments: the acceptance lease becomes a full one, and the handler gets what it needs.
-- KEYS: partition owned, then for each session: call session
-- ARGV: partition instance incarnation, then for each session: fence
-- RETURNS: for each session: accepted fence metadata checkpoint checkpoint_number details failures cause created_at
--   idempotency_field body_digest trace account vacated_by vacant_ms waited_ms; or: lost; or: unknown
-- USES: partition batch time plan log seniority records
-- FLAGS: allow-oom

local owned, instance, incarnation = KEYS[8], ARGV[6], ARGV[7]
redis.call('SCARD', owned)
local EVENTS = {takeover = 'session.takeover', handoff = 'session.handoff'}

local function accept(call_key, session_key, fence)
  local call_id, session_id = call_of(call_key), session_of(session_key)
  local call = read_call(call_key, call_id)
  local entry = call.sessions[session_id]
  if not entry then return {'unknown'} end
  if not owned_by(entry, instance, incarnation) or entry.fence ~= fence then return {'lost'} end
  local kept = redis.call('HMGET', session_key, 'metadata', 'checkpoint', 'checkpoint_number', 'details', 'failures',
    'cause', 'created_at', 'idempotency_field', 'body_digest', 'trace', 'account', 'short_runs', 'was_short',
    'accepted_fence', 'vacated_by', 'vacated_at')
  local member = call_id .. '/' .. session_id
  add('ZADD', LEASES, integer(lease_ms + TTL_MS), member)
  add('SADD', owned, member)
  add('PEXPIRE', owned, RETENTION_MS)
  if not entry.accepted then
    local short_runs = tonumber(kept[12]) or 0
    -- Each fence is accepted once, and counted once, also if an earlier try was cut off.
    if kept[6] == 'takeover' and kept[14] ~= integer(fence) then
      short_runs = kept[13] == '1' and short_runs + 1 or 0
    end
    add('HSET', session_key, 'accepted_at', integer(lease_ms), 'short_runs', short_runs,
      'accepted_fence', integer(fence))
    log(EVENTS[kept[6]] or 'session.activated', call_id, session_id, instance, fence, kept[6] or '')
  elseif entry.state == 'pending' then
    log('session.activated', call_id, session_id, instance, fence, 'accepted late')
  end
  if not entry.accepted or entry.state == 'pending' then
    entry.accepted, entry.state = true, 'active'
    put(call, session_id, entry)
    remove('ZREM', PENDING, member)
  end
  local result = {'accepted', integer(fence)}
  for i = 1, 11 do result[#result + 1] = kept[i] or '' end
  result[#result + 1] = kept[15] or ''
  result[#result + 1] = kept[16] and integer(math.max(0, lease_ms - tonumber(kept[16]))) or ''
  result[#result + 1] = integer(math.max(0, wall_ms - (tonumber(kept[7]) or wall_ms)))
  return result
end

local results = {}
for i = 8, #ARGV do
  results[#results + 1] = accept(KEYS[2 * i - 7], KEYS[2 * i - 6], tonumber(ARGV[i]))
end
record('HSET', CLOCK, 'lease_ms', integer(lease_ms), 'wall_ms', integer(wall_ms))
carry_out()
return results
