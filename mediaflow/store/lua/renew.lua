-- Extend leases, check for siblings and hear of a cancel, for a batch of sessions of one owner: `renew_held` does the
-- same where there is nothing to find.
-- KEYS: partition owned, then for each session: call session
-- ARGV: partition instance incarnation rank, then for each session: fence, with a minus sign if a new one is wanted
-- RETURNS: for each session: the word renewed alone; or a list: refenced fence; lost overlap_ms; cancelled;
--   yielded winner; unknown
-- USES: partition batch time plan log seniority records endings
-- FLAGS: allow-oom

local owned, instance, incarnation, rank = KEYS[8], ARGV[6], ARGV[7], ARGV[8]
redis.call('SCARD', owned)

local function give_up(call, session_id, session_key, entry)
  -- All incarnations of an instance share the set: what a newer one owns has to stay in it.
  if not (LIVE[entry.state] and entry.owner == instance) then
    remove('SREM', owned, call.id .. '/' .. session_id)
  end
  local ended_here = not LIVE[entry.state] and entry.owner == instance and entry.incarnation == incarnation
  if ended_here and entry.state == 'yielded' then
    return {'yielded', redis.call('HGET', session_key, 'winner') or ''}
  end
  if ended_here then return {'cancelled'} end
  log('session.lost', call.id, session_id, instance, entry.fence, 'another owner')
  local started_at = entry.accepted and redis.call('HGET', session_key, 'accepted_at')
  return {'lost', started_at and integer(math.max(0, lease_ms - tonumber(started_at))) or ''}
end

local function hold(call, session_id, entry, fence)
  local member = call.id .. '/' .. session_id
  add('ZADD', LEASES, integer(lease_ms + TTL_MS), member)
  -- Each time: the set expires by the wall clock, so a jump of that clock can have taken it away.
  add('SADD', owned, member)
  if entry.state == 'active' and entry.accepted and entry.fence == fence then
    say_who_holds(call)
    return
  end
  if entry.state == 'pending' or not entry.accepted then
    log('session.activated', call.id, session_id, instance, fence, 'renewed late')
  end
  entry.state, entry.accepted, entry.fence = 'active', true, fence
  put(call, session_id, entry)
  remove('ZREM', PENDING, member)
end

local function renew(call, session_key, session_id, fence, want_new_fence)
  local entry = call.sessions[session_id]
  if not entry then return {'unknown'} end
  local rolled_back = LIVE[entry.state] and fence > entry.fence
  redis.call('HLEN', session_key)
  if not rolled_back and not owned_by(entry, instance, incarnation) then
    return give_up(call, session_id, session_key, entry)
  end

  local winner = running_sibling(call, session_id, rank)
  if winner then
    entry.owner, entry.incarnation, entry.rank = instance, incarnation, rank
    add('HSET', session_key, 'winner', winner)
    finish(call, session_id, session_key, 'yielded', 'yielded', 'in favour of ' .. winner)
    remove('SREM', owned, call.id .. '/' .. session_id)
    return {'yielded', winner}
  end
  if rolled_back then
    -- A fence that Redis never heard of proves that it lost writes: whoever it names is older than the caller.
    call.fence = math.max(call.fence, fence)
    entry.owner, entry.incarnation, entry.rank = instance, incarnation, rank
    entry.state, entry.accepted = 'active', true
    log('session.readopted', call.id, session_id, instance, next_fence(call), 'the store was rolled back')
  end
  if rolled_back or want_new_fence or entry.fence < call.fence then
    local new_fence = next_fence(call)
    hold(call, session_id, entry, new_fence)
    return {'refenced', integer(new_fence)}
  end
  hold(call, session_id, entry, entry.fence)
  if entry.fence ~= fence then return {'refenced', integer(entry.fence)} end
  return 'renewed'
end

local results = {}
for i = 9, #ARGV do
  local call_key, session_key, fence = KEYS[2 * i - 9], KEYS[2 * i - 8], tonumber(ARGV[i])
  local call = read_call(call_key, call_of(call_key))
  results[#results + 1] = renew(call, session_key, session_of(session_key), math.abs(fence), fence < 0)
end
add('PEXPIRE', owned, RETENTION_MS)
record('HSET', CLOCK, 'lease_ms', integer(lease_ms), 'wall_ms', integer(wall_ms))
carry_out()
return results
