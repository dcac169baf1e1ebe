-- Opens every script on the streams of a user: all of it is one hash, and one key with the user's own limit.
-- KEYS: user limit
-- ARGV: a JSON object; see store/streams.py
-- Fields of the hash: s:<id> a stream (also an expired one, which may come back), e:<id> one that was ended,
-- k:<key> an idempotency key, r:<scope> requests of the current minute; of users with many, c: d: n, see _tally.lua.

local USER, LIMIT = KEYS[1], KEYS[2]
local request = cjson.decode(ARGV[1])
local MINUTE_MS = 60000

local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local own_limit = redis.call('GET', LIMIT)
local limit = request.limit or (own_limit and tonumber(own_limit)) or request.default_limit

local streams, ended, keys, meters = {}, {}, {}, {}
local kinds = {s = streams, e = ended, k = keys, r = meters}
local counted, tally_head = {}, nil  -- as it stands in Redis
local size = redis.call('HLEN', USER)
local is_there, is_whole = {}, false
local changes, leavings = {}, {}

-- Of fields that were read.
local function set(field, value)
  if not is_there[field] then size = size + 1 end
  is_there[field] = true
  changes[#changes + 1] = field
  changes[#changes + 1] = cjson.encode(value)
end

local function unset(field)
  if is_there[field] then size = size - 1 end
  is_there[field] = nil
  leavings[#leavings + 1] = field
end

local function take(field, text)
  is_there[field] = true
  local kind = string.sub(field, 1, 1)
  if kinds[kind] then kinds[kind][string.sub(field, 3)] = cjson.decode(text)
  elseif kind == 'n' then tally_head = cjson.decode(text)
  else counted[field] = tonumber(text) end
end

local function read(fields)
  if is_whole then return end
  local texts = redis.call('HMGET', USER, unpack(fields))
  for i, field in ipairs(fields) do
    if texts[i] then take(field, texts[i]) end
  end
end

-- Only before anything is planned: it would read again what was changed.
local function read_all()
  if is_whole then return end
  is_whole = true
  local flat = redis.call('HGETALL', USER)
  for i = 1, #flat, 2 do take(flat[i], flat[i + 1]) end
  for id in pairs(ended) do
    -- Left behind by a script that was cut off: what has ended plays no more.
    if streams[id] then
      streams[id] = nil
      unset('s:' .. id)
    end
  end
end

local function is_live(stream) return stream.expires_ms > now_ms end

local function live_streams()
  local playing = {}
  for id, stream in pairs(streams) do
    if is_live(stream) then playing[id] = stream end
  end
  return playing
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
