-- Opens every script on the streams of a user: all of it is one hash, and one key with the user's own limit.
-- KEYS: user limit
-- ARGV: a JSON object; see store/streams.py
-- Fields of the hash: s:<id> a stream (also an expired one, which may come back), e:<id> one that was ended,
-- k:<key> an idempotency key, r:<scope> requests of the current minute.

local USER, LIMIT = KEYS[1], KEYS[2]
local request = cjson.decode(ARGV[1])
local MINUTE_MS, LEAST_KEPT, MOST_WORDS = 60000, 50, 4000

local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local own_limit = redis.call('GET', LIMIT)
local limit = request.limit or (own_limit and tonumber(own_limit)) or request.default_limit

local streams, ended, keys, meters = {}, {}, {}, {}
local changes, leavings = {}, {}

local function set(field, value) changes[#changes + 1] = field; changes[#changes + 1] = cjson.encode(value) end
local function unset(field) leavings[#leavings + 1] = field end

do
  local kinds = {s = streams, e = ended, k = keys, r = meters}
  local flat = redis.call('HGETALL', USER)
  for i = 1, #flat, 2 do
    local kind = kinds[string.sub(flat[i], 1, 1)]
    if kind then kind[string.sub(flat[i], 3)] = cjson.decode(flat[i + 1]) end
  end
  -- Left behind by a script that was cut off: what has ended plays no more.
  for id in pairs(ended) do
    if streams[id] then
      streams[id] = nil
      unset('s:' .. id)
    end
  end
end

local function is_live(stream) return stream.expires_ms > now_ms end

-- In parts, because Lua passes no more than some 8,000 words to a call.
local function in_parts(write, command, words)
  for first = 1, #words, MOST_WORDS do
    write(command, USER, unpack(words, first, math.min(first + MOST_WORDS - 1, #words)))
  end
end

-- Forgets what is too old, and of the rest the oldest, so that no user grows without bound.
local function forget(old)
  local kept = math.max(LEAST_KEPT, limit)
  table.sort(old, function(one, other) return one.at_ms < other.at_ms end)
  for i, one in ipairs(old) do
    if one.at_ms + request.retention_ms < now_ms or #old - i >= kept then unset(one.field) end
  end
end

-- Until when anything of this user is worth keeping; the key goes with it.
local expired_count = 0
local function keep()
  local last_ms = now_ms + MINUTE_MS
  local old, known = {}, {}
  for id, stream in pairs(streams) do
    if not is_live(stream) and not stream.told then
      stream.told = true
      expired_count = expired_count + 1
      set('s:' .. id, stream)
    end
    if not is_live(stream) then old[#old + 1] = {field = 's:' .. id, at_ms = stream.expires_ms} end
    last_ms = math.max(last_ms, stream.expires_ms + request.retention_ms)
  end
  for id, one in pairs(ended) do
    old[#old + 1] = {field = 'e:' .. id, at_ms = one.at_ms}
    last_ms = math.max(last_ms, one.at_ms + request.retention_ms)
  end
  for key, one in pairs(keys) do
    known[#known + 1] = {field = 'k:' .. key, at_ms = one.at_ms}
    last_ms = math.max(last_ms, one.at_ms + request.retention_ms)
  end
  for scope, meter in pairs(meters) do
    if meter.from_ms + MINUTE_MS <= now_ms then unset('r:' .. scope) end
  end
  forget(old)
  forget(known)
  in_parts(record, 'HSET', changes)
  in_parts(remove, 'HDEL', leavings)
  let_expire('PEXPIRE', USER, string.format('%.0f', last_ms - now_ms))
  carry_out()
end

-- Counts a request; answers in how many ms to try again if there were too many in the minute.
local function throttle(scope)
  local meter = meters[scope]
  if not meter or meter.from_ms + MINUTE_MS <= now_ms or meter.from_ms > now_ms then
    meter = {from_ms = now_ms, count = 0}
    meters[scope] = meter
  end
  if meter.count >= request.throttle then return meter.from_ms + MINUTE_MS - now_ms end
  meter.count = meter.count + 1
  set('r:' .. scope, meter)
  return nil
end

local function matches(stream, rule)
  for name, value in pairs(rule.where) do
    if stream.attributes[name] ~= value then return false end
  end
  return true
end

-- What a rule counts of the streams that play beside a new one: the streams in its way, and how many they count for.
local function count(rule, playing, new)
  if not matches(new, rule) then return nil end
  local value = rule.attribute and new.attributes[rule.attribute]
  if rule.attribute and not value then return nil end
  local seen, total, counted = {[new.device] = true}, 1, {}
  for id, stream in pairs(playing) do
    if matches(stream, rule) and (not rule.attribute or stream.attributes[rule.attribute] == value) then
      local in_the_way = rule.count == 'streams' or stream.device ~= new.device
      if in_the_way then counted[#counted + 1] = id end
      if rule.count == 'streams' or not seen[stream.device] then total = total + 1 end
      seen[stream.device] = true
    end
  end
  return counted, total
end

-- The rules that a new stream beside these would violate, each with the streams in its way.
local function violations(playing, new)
  local found = {}
  for _, rule in ipairs(request.rules) do
    local max = rule.policy == 'user' and limit or rule.max
    local counted, total = count(rule, playing, new)
    if counted and total > max then
      found[#found + 1] = {policy = rule.policy, rule = rule.count, attribute = rule.attribute, threshold = max,
        streams = counted}
    end
  end
  return found
end

local function live_streams()
  local playing = {}
  for id, stream in pairs(streams) do
    if is_live(stream) then playing[id] = stream end
  end
  return playing
end

-- As the limit counts: streams, or distinct devices.
local function active(playing)
  local devices, total = {}, 0
  for _, stream in pairs(playing) do
    if request.count_by ~= 'device' or not devices[stream.device] then total = total + 1 end
    devices[stream.device] = true
  end
  return total
end

-- The operation tells a request that is asked again, because its reply was lost, from a second one.
local function end_stream(id, reason, by, operation)
  local stream = streams[id]
  if stream and not is_live(stream) and not stream.told then expired_count = expired_count + 1 end
  ended[id] = {reason = reason, at_ms = now_ms, by = by, operation = operation}
  streams[id] = nil
  set('e:' .. id, ended[id])
  unset('s:' .. id)
end

local function answer(status, more)
  local playing = live_streams()
  local result = more or {}
  result.status, result.limit, result.active, result.now_ms = status, limit, active(playing), now_ms
  result.expired = expired_count
  return cjson.encode(result)
end
