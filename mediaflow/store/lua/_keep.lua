-- Ends streams, forgets what is old, keeps the rest and answers.

local LEAST_KEPT, MOST_WORDS = 50, 4000
local expired_count = 0

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

-- Goes through all; returns until when anything of it is worth keeping.
local function sweep()
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
  return last_ms
end

-- Writes; the key goes with the last thing in it that is worth keeping.
local function keep()
  local last_ms = math.max(now_ms + MINUTE_MS, now_ms + request.ttl_ms + request.retention_ms)
  if is_whole then last_ms = sweep() end
  keep_tally()
  in_parts(record, 'HSET', changes)
  in_parts(remove, 'HDEL', leavings)
  let_expire('PEXPIRE', USER, string.format('%.0f', last_ms - now_ms))
  carry_out()
end

-- The operation tells a request that is asked again, because its reply was lost, from a second one.
local function end_stream(id, reason, by, operation)
  local stream = streams[id]
  if stream and not is_whole then tally(stream, -1) end
  if stream and not is_live(stream) and not stream.told then expired_count = expired_count + 1 end
  ended[id] = {reason = reason, at_ms = now_ms, by = by, operation = operation}
  streams[id] = nil
  set('e:' .. id, ended[id])
  unset('s:' .. id)
end

local function answer(status, more)
  local result = more or {}
  result.active = is_whole and active(live_streams()) or counts[THE_LIMIT] or 0
  result.status, result.limit, result.now_ms, result.expired = status, limit, now_ms, expired_count
  return cjson.encode(result)
end
