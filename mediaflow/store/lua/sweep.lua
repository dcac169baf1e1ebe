-- Make sessions pending whose lease is over, or whose owner is dead; the last owner stays named, for a late renewal.
-- KEYS: partition owned (of the dead instance), then for each session: call session idempotency
-- ARGV: partition max_takeovers instance before_incarnation reason, then for each session: call_id session_id
--   (instance is empty when leases are what is looked at)
-- RETURNS: for each session: swept, lapsed (it was assigned, and not accepted), parked, kept or gone
-- USES: partition time plan log seniority records endings
-- FLAGS: allow-oom

local owned, max_takeovers, instance = KEYS[8], tonumber(ARGV[6]), ARGV[7]
local before_incarnation, reason = tonumber(ARGV[8]), ARGV[9]
redis.call('SCARD', owned)

local function is_over(call, session_id, entry)
  if entry.state ~= 'active' then return false end
  if instance ~= '' then
    return entry.owner == instance and tonumber(entry.incarnation) < before_incarnation
  end
  return not has_live_lease(call, session_id)
end

-- The owner's last sign of life: its last renewal, or now if it was seen to die.
local function last_seen_ms(member)
  if instance == '' then
    local expired_at = redis.call('ZSCORE', LEASES, member)
    if expired_at then return tonumber(expired_at) - TTL_MS end
  end
  return lease_ms
end

local function sweep(call_key, session_key, idempotency_key, call_id, session_id)
  local member = call_id .. '/' .. session_id
  local call = read_call(call_key, call_id)
  local entry = call.sessions[session_id]
  local kept = redis.call('HMGET', session_key, 'accepted_at', 'short_runs')
  redis.call('HLEN', idempotency_key)
  local has_newer_owner = entry and entry.owner == instance and tonumber(entry.incarnation) >= before_incarnation
  if instance ~= '' and not has_newer_owner then remove('SREM', owned, member) end
  if not entry or not LIVE[entry.state] then
    -- An index that points to nothing live: what is left of a script that was cut off is put in order here.
    let_expire('PEXPIRE', session_key, entry and RETENTION_MS or 0)
    close_if_over(call, idempotency_key)
    revoke('HDEL', HELD, member)
    remove('ZREM', LEASES, member)
    remove('ZREM', PENDING, member)
    return 'gone'
  end
  if not is_over(call, session_id, entry) then
    if entry.state == 'pending' then remove('ZREM', LEASES, member) end
    return 'kept'
  end
  if entry.accepted then
    local seen_ms = last_seen_ms(member)
    local short = seen_ms - (tonumber(kept[1]) or 0) < TTL_MS
    if short and (tonumber(kept[2]) or 0) >= max_takeovers then
      finish(call, session_id, session_key, 'failed', 'failed',
        'parked: ' .. max_takeovers .. ' takeovers in a row, each after less than one lease of running')
      close_if_over(call, idempotency_key)
      return 'parked'
    end
    add('HSET', session_key, 'cause', 'takeover', 'was_short', short and '1' or '0',
      'vacated_at', integer(seen_ms), 'vacated_by', reason)
  end
  add('ZADD', PENDING, integer(lease_ms), member)
  local status = entry.accepted and 'swept' or 'lapsed'
  log('session.pending', call_id, session_id, entry.owner, entry.fence, entry.accepted and reason or 'not accepted')
  entry.state = 'pending'
  put(call, session_id, entry)
  remove('ZREM', LEASES, member)
  return status
end

local results = {}
for i = 10, #ARGV, 2 do
  local first = 9 + 3 * (i - 10) / 2
  results[#results + 1] = sweep(KEYS[first], KEYS[first + 1], KEYS[first + 2], ARGV[i], ARGV[i + 1])
end
record('HSET', CLOCK, 'lease_ms', integer(lease_ms), 'wall_ms', integer(wall_ms))
carry_out()
return results
