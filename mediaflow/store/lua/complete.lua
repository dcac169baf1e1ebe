-- End the call by its session's success; with a senior running sibling, yield to it instead.
-- KEYS: partition call session idempotency owned, then the session keys of live siblings
-- ARGV: partition call_id session_id instance incarnation fence, then the ids of those siblings
-- RETURNS: written; yielded winner; lost; unknown; refenced fence; siblings id… (nothing done: ask again with their keys)
-- USES: partition time plan log seniority records endings
-- FLAGS: allow-oom

local call_key, session_key, idempotency_key, owned = KEYS[8], KEYS[9], KEYS[10], KEYS[11]
local call_id, session_id, instance, incarnation, fence = ARGV[6], ARGV[7], ARGV[8], ARGV[9], tonumber(ARGV[10])

redis.call('SCARD', owned)
redis.call('HLEN', idempotency_key)
local call = read_call(call_key, call_id)
local entry = call.sessions[session_id]
local known_winner = redis.call('HGET', session_key, 'winner')
if not entry then return {'unknown'} end
if entry.owner == instance and entry.incarnation == incarnation and entry.fence == fence then
  if entry.state == 'completed' then return {'written'} end
  if entry.state == 'yielded' then return {'yielded', known_winner or ''} end
end
if not LIVE[entry.state] then return {'lost'} end
if fence > entry.fence then return {'unknown'} end
if not owned_by(entry, instance, incarnation) then return {'lost'} end
if fence < entry.fence then return {'refenced', integer(entry.fence)} end

local sibling_keys, missing = {}, {}
for i = 11, #ARGV do sibling_keys[ARGV[i]] = KEYS[i + 1] end
for sibling_id, sibling in pairs(call.sessions) do
  if sibling_id ~= session_id and LIVE[sibling.state] then
    if not sibling_keys[sibling_id] then
      missing[#missing + 1] = sibling_id
    else
      redis.call('HLEN', sibling_keys[sibling_id])
    end
  end
end
if #missing > 0 then return {'siblings', unpack(missing)} end

remove('SREM', owned, call_id .. '/' .. session_id)
local winner = running_sibling(call, session_id, entry.rank)
local result = {'written'}
if winner then
  add('HSET', session_key, 'winner', winner)
  finish(call, session_id, session_key, 'yielded', 'yielded', 'in favour of ' .. winner)
  result = {'yielded', winner}
else
  for sibling_id, sibling_key in pairs(sibling_keys) do
    local sibling = call.sessions[sibling_id]
    if sibling and LIVE[sibling.state] then
      finish(call, sibling_id, sibling_key, 'cancelled', 'cancelled', 'its call was completed')
      mark_ended(call, sibling_id)
      if sibling.owner ~= '' then announce('PUBLISH', INBOX .. sibling.owner, 'hint ' .. sibling_id) end
    end
  end
  finish(call, session_id, session_key, 'completed', 'completed', '')
  mark_ended(call, session_id)
  close_if_over(call, idempotency_key)
end
record('HSET', CLOCK, 'lease_ms', integer(lease_ms), 'wall_ms', integer(wall_ms))
carry_out()
return result
