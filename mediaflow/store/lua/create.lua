-- Make a session for a call, or find the one it has; the same idempotency key never makes a second one.
-- KEYS: partition call session idempotency owned
-- ARGV: partition call_id session_id idempotency_field body_digest metadata instance incarnation rank may_queue
--   trace account
-- RETURNS: created|existing|repeated session_id first_created state owner incarnation fence accepted, or: conflict, or: absent
-- USES: partition time plan log seniority records

local call_key, session_key, idempotency_key, owned = KEYS[8], KEYS[9], KEYS[10], KEYS[11]
local call_id, session_id, field, digest, metadata = ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[10]
local instance, incarnation, rank = ARGV[11], ARGV[12], ARGV[13]
local may_queue, trace, account = ARGV[14] == '1', ARGV[15], ARGV[16]
local KEPT_ANSWERS = 1000

local call = read_call(call_key, call_id)

local function answer(status, id, first_created)
  local entry = call.sessions[id]
  -- The record of a repeated request may be gone where the call went on without it.
  if not entry then return {status, id, first_created, 'completed', '', '0', '0', '0'} end
  return {status, id, first_created, entry.state, entry.owner, entry.incarnation, integer(entry.fence),
    entry.accepted and '1' or '0'}
end

local known = redis.call('HGET', idempotency_key, field)
if known then
  local first_created, first_id, first_digest = string.match(known, '^([01])|([^|]*)|([^|]*)|')
  if first_digest ~= digest then return {'conflict'} end
  return answer('repeated', first_id, first_created)
end

-- Answers beyond the bound are forgotten, the oldest first, but never those that made a session.
local function forget_old_answers()
  if redis.call('HLEN', idempotency_key) < KEPT_ANSWERS then return end
  local found, flat = {}, redis.call('HGETALL', idempotency_key)
  for i = 1, #flat, 2 do
    local made, at_ms = string.match(flat[i + 1], '^([01])|.*|(%d+)$')
    if made == '0' then found[#found + 1] = {name = flat[i], at_ms = tonumber(at_ms)} end
  end
  table.sort(found, function(one, other) return one.at_ms < other.at_ms end)
  for i = 1, math.max(1, #found - KEPT_ANSWERS / 2) do
    if found[i] then remove('HDEL', idempotency_key, found[i].name) end
  end
end

local function remember(id, first_created)
  forget_old_answers()
  record('HSET', idempotency_key, field, table.concat({first_created, id, digest, integer(wall_ms)}, '|'))
end

local current = running_sibling(call, '', nil)
if not current then
  for id, entry in pairs(call.sessions) do
    if LIVE[entry.state] then
      local best = current and call.sessions[current]
      if not best or (entry.state == 'active' and best.state ~= 'active')
        or (entry.state == best.state and bytes_precede(id, current)) then
        current = id
      end
    end
  end
end
if current then
  remember(current, '0')
  carry_out()
  return answer('existing', current, '0')
end

if instance == '' and not may_queue then return {'absent'} end

for id, entry in pairs(call.sessions) do
  if entry.ended_ms + RETENTION_MS < wall_ms then
    remove('HDEL', call_key, 's:' .. id)
  end
end

redis.call('SCARD', owned)
redis.call('HLEN', session_key)
local member = call_id .. '/' .. session_id
local entry = {state = 'pending', owner = '', incarnation = '0', rank = '', fence = 0, accepted = false, ended_ms = 0}
-- Only the first write of a script is refused when memory is full, so it has to be one that takes memory.
if instance ~= '' then
  entry = {state = 'active', owner = instance, incarnation = incarnation, rank = rank, fence = next_fence(call),
    accepted = true, ended_ms = 0}
  add('ZADD', LEASES, integer(lease_ms + TTL_MS), member)
  add('SADD', owned, member)
  add('PEXPIRE', owned, RETENTION_MS)
else
  add('ZADD', PENDING, integer(lease_ms), member)
end
add('ZREM', ENDED, call_id)
add('ZADD', CALLS, 0, call_id)
add('PERSIST', call_key)
add('PERSIST', idempotency_key)
local fields = {'metadata', metadata, 'created_at', integer(wall_ms), 'accepted_at', integer(lease_ms),
  'cause', 'created', 'failures', 0, 'short_runs', 0, 'idempotency_field', field, 'body_digest', digest,
  'account', account}
if trace ~= '' then fields[#fields + 1], fields[#fields + 2] = 'trace', trace end
add('HSET', session_key, unpack(fields))
put(call, session_id, entry)
remember(session_id, '1')
log('session.created', call_id, session_id, instance, entry.fence, '')
if instance ~= '' then
  log('session.activated', call_id, session_id, instance, entry.fence, 'created')
else
  log('session.pending', call_id, session_id, '', 0, 'no free slot')
  announce('PUBLISH', HINTS, 'pending')
end
record('HSET', CLOCK, 'lease_ms', integer(lease_ms), 'wall_ms', integer(wall_ms))
carry_out()
return answer('created', session_id, '1')
