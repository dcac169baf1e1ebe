-- Put back a session that Redis forgot while its owner lived; always under a new fence.
-- KEYS: partition call session idempotency owned
-- ARGV: partition instance incarnation rank call_id session_id fence metadata checkpoint checkpoint_number
--   details failures created_at idempotency_field body_digest trace account
-- RETURNS: readopted fence; there fence (nothing was put back: renew); or: lost
-- USES: partition time plan log seniority records
-- FLAGS: allow-oom

local call_key, session_key, idempotency_key, owned = KEYS[8], KEYS[9], KEYS[10], KEYS[11]
local instance, incarnation, rank = ARGV[6], ARGV[7], ARGV[8]
local call_id, session_id, fence = ARGV[9], ARGV[10], tonumber(ARGV[11])
local metadata, checkpoint, checkpoint_number, details = ARGV[12], ARGV[13], ARGV[14], ARGV[15]
local failures, created_at, field, digest, trace, account =
  ARGV[16], ARGV[17], ARGV[18], ARGV[19], ARGV[20], ARGV[21]

redis.call('SCARD', owned)
redis.call('HLEN', idempotency_key)
local stored_number = tonumber(redis.call('HGET', session_key, 'checkpoint_number') or 0)
local call = read_call(call_key, call_id)
local entry = call.sessions[session_id]

local function remember_key()
  if field == '' then return end
  record('HSETNX', idempotency_key, field, table.concat({'1', session_id, digest, integer(wall_ms)}, '|'))
end

if entry then
  if owned_by(entry, instance, incarnation) and entry.fence >= fence then
    -- An earlier try put it back, and may have been cut off right after. What was written since is newer than what
    -- this one brings, and how long the lease has run is not known here: a renewal has to follow.
    remember_key()
    carry_out()
    return {'there', integer(entry.fence)}
  end
  -- The same fence without its owner: it was given up since, and is not to be revived.
  if not LIVE[entry.state] or entry.fence >= fence then return {'lost'} end
elseif bytes_precede(session_id, call.ended_by) then
  return {'lost'}
end

call.fence = math.max(call.fence, fence)
local member = call_id .. '/' .. session_id
add('ZADD', LEASES, integer(lease_ms + TTL_MS), member)
add('SADD', owned, member)
add('PEXPIRE', owned, RETENTION_MS)
add('ZREM', ENDED, call_id)
add('ZADD', CALLS, 0, call_id)
add('PERSIST', call_key)
add('PERSIST', idempotency_key)
add('PERSIST', session_key)
local fields = {'metadata', metadata, 'created_at', created_at, 'accepted_at', integer(lease_ms), 'cause', 'created',
  'failures', failures, 'short_runs', 0, 'idempotency_field', field, 'body_digest', digest, 'details', details,
  'account', account}
if trace ~= '' then fields[#fields + 1], fields[#fields + 2] = 'trace', trace end
if tonumber(checkpoint_number) >= stored_number then
  fields[#fields + 1], fields[#fields + 2] = 'checkpoint_number', checkpoint_number
  if checkpoint ~= '' then fields[#fields + 1], fields[#fields + 2] = 'checkpoint', checkpoint end
end
add('HSET', session_key, unpack(fields))
local new_fence = next_fence(call)
put(call, session_id, {state = 'active', owner = instance, incarnation = incarnation, rank = rank, fence = new_fence,
  accepted = true, ended_ms = 0})
remember_key()
remove('ZREM', PENDING, member)
log('session.readopted', call_id, session_id, instance, new_fence, 'the store had forgotten it')
record('HSET', CLOCK, 'lease_ms', integer(lease_ms), 'wall_ms', integer(wall_ms))
carry_out()
return {'readopted', integer(new_fence)}
