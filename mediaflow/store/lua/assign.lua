-- Give pending sessions to instances under new fences; each has the acceptance lease to take its sessions up.
-- KEYS: partition, then for each session: call session owned (of the instance)
-- ARGV: partition operation accept_ttl_ms, then for each session: call_id session_id instance incarnation rank
-- RETURNS: for each session: assigned, yielded or skipped
-- USES: partition time plan log seniority records endings
-- FLAGS: allow-oom

local operation, accept_ttl_ms = ARGV[6], tonumber(ARGV[7])
local inboxes, messages = {}, {}

local function tell(instance, call_id, session_id, incarnation, fence)
  if not messages[instance] then
    messages[instance] = {}
    inboxes[#inboxes + 1] = instance
  end
  table.insert(messages[instance], table.concat({call_id, session_id, incarnation, integer(fence)}, '/'))
end

local function assign(call_key, session_key, owned, call_id, session_id, instance, incarnation, rank)
  local member = call_id .. '/' .. session_id
  local call = read_call(call_key, call_id)
  local entry = call.sessions[session_id]
  local done = redis.call('HGET', session_key, 'operation')
  redis.call('SCARD', owned)
  if not entry or not LIVE[entry.state] then
    -- All that is left of a script that was cut off: sweep, which has the keys for it, does the rest.
    add('ZADD', LEASES, integer(lease_ms), member)
    remove('ZREM', PENDING, member)
    return 'skipped'
  end
  local offered = entry.state == 'active' and not entry.accepted and owned_by(entry, instance, incarnation)
  if done == operation and offered then
    tell(instance, call_id, session_id, incarnation, entry.fence)
    return 'assigned'
  end
  if entry.state ~= 'pending' then
    remove('ZREM', PENDING, member)
    return 'skipped'
  end
  local winner = running_sibling(call, session_id, nil)
  if winner then
    add('HSET', session_key, 'winner', winner)
    finish(call, session_id, session_key, 'yielded', 'yielded', 'in favour of ' .. winner)
    return 'yielded'
  end
  local fence = next_fence(call)
  add('ZADD', LEASES, integer(lease_ms + accept_ttl_ms), member)
  add('SADD', owned, member)
  add('PEXPIRE', owned, RETENTION_MS)
  add('HSET', session_key, 'operation', operation)
  put(call, session_id, {state = 'active', owner = instance, incarnation = incarnation, rank = rank, fence = fence,
    accepted = false, ended_ms = 0})
  remove('ZREM', PENDING, member)
  tell(instance, call_id, session_id, incarnation, fence)
  return 'assigned'
end

local results = {}
for i = 8, #ARGV, 5 do
  local first = 8 + 3 * (i - 8) / 5
  results[#results + 1] = assign(KEYS[first], KEYS[first + 1], KEYS[first + 2], ARGV[i], ARGV[i + 1], ARGV[i + 2],
    ARGV[i + 3], ARGV[i + 4])
end
for _, instance in ipairs(inboxes) do
  announce('PUBLISH', INBOX .. instance, 'assign ' .. table.concat(messages[instance], ' '))
end
record('HSET', CLOCK, 'lease_ms', integer(lease_ms), 'wall_ms', integer(wall_ms))
carry_out()
return results
