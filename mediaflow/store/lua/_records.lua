-- Ownership records: one field `s:<session id>` of the call's hash for each session, so siblings are seen in one key.
-- A record is state|owner|incarnation|rank|fence|accepted|ended_ms; a pending one that was swept keeps its last owner.

local LIVE = {active = true, pending = true}

local function parse(text)
  local state, owner, incarnation, rank, fence, accepted, ended_ms =
    string.match(text, '^(%l+)|([^|]*)|(%d+)|([^|]*)|(%d+)|([01])|(%d+)$')
  if not state then error('malformed ownership record: ' .. text) end
  return {state = state, owner = owner, incarnation = incarnation, rank = rank, fence = tonumber(fence),
    accepted = accepted == '1', ended_ms = tonumber(ended_ms)}
end

-- A call is read once, also when several sessions of it are in one batch: later ones see what was decided for earlier.
local calls_read = {}
local function read_call(key, call_id)
  local call = calls_read[key]
  if call then return call end
  call = {key = key, id = call_id, fence = 0, ended_by = '', sessions = {}}
  local flat = redis.call('HGETALL', key)
  for i = 1, #flat, 2 do
    local name, value = flat[i], flat[i + 1]
    if name == 'fence' then
      call.fence = tonumber(value)
    elseif name == 'ended_by' then
      call.ended_by = value
    elseif string.sub(name, 1, 2) == 's:' then
      call.sessions[string.sub(name, 3)] = parse(value)
    end
  end
  calls_read[key] = call
  return call
end

-- HELD says of a session, under call/session, by whom and under which fence it is held, if nothing else can be said of
-- it: it runs, its call has no other live session, and there is no later fence. So its lease can be renewed without a
-- look at the call. Each change of a record revokes first what is said of its call, and says it anew when all is done.

local function claim(instance, incarnation, fence) return instance .. '|' .. incarnation .. '|' .. fence end

local function say_who_holds(call)
  local holder, number = nil, 0
  for id, entry in pairs(call.sessions) do
    if LIVE[entry.state] then holder, number = id, number + 1 end
  end
  local entry = number == 1 and call.sessions[holder]
  if entry and entry.state == 'active' and entry.accepted and entry.fence == call.fence then
    grant(call.id, 'HSET', HELD, call.id .. '/' .. holder,
      claim(entry.owner, entry.incarnation, integer(entry.fence)))
  else
    grant(call.id)
  end
end

local function put(call, session_id, entry)
  for id, known in pairs(call.sessions) do
    if id == session_id or LIVE[known.state] then revoke('HDEL', HELD, call.id .. '/' .. id) end
  end
  call.sessions[session_id] = entry
  call.fence = math.max(call.fence, entry.fence)
  record('HSET', call.key, 'fence', integer(call.fence), 's:' .. session_id, table.concat({entry.state, entry.owner,
    entry.incarnation, entry.rank, integer(entry.fence), entry.accepted and '1' or '0', integer(entry.ended_ms)}, '|'))
  say_who_holds(call)
end

-- Grows with every change of owner, also when Redis lost everything: time goes on without it.
local function next_fence(call)
  return math.max(call.fence + 1, now_us)
end

local function has_live_lease(call, session_id)
  local expires_ms = redis.call('ZSCORE', LEASES, call.id .. '/' .. session_id)
  return expires_ms and tonumber(expires_ms) > lease_ms
end

-- The most senior sibling that is running: active, started by its owner, its lease live in this very step.
-- Without a rank: the most senior of all; with one: only one senior to it.
local function running_sibling(call, session_id, rank)
  local winner = nil
  for sibling_id, sibling in pairs(call.sessions) do
    if sibling_id ~= session_id and sibling.state == 'active' and sibling.accepted
      and (not rank or precedes(sibling.rank, sibling_id, rank, session_id))
      and (not winner or precedes(sibling.rank, sibling_id, call.sessions[winner].rank, winner))
      and has_live_lease(call, sibling_id) then
      winner = sibling_id
    end
  end
  return winner
end

local function owned_by(entry, instance, incarnation)
  return LIVE[entry.state] and entry.owner == instance and entry.incarnation == incarnation
end
