-- Ends streams, forgets what is old, keeps the rest and answers.

local expired_count = 0

-- Writes; the key goes with the last thing in it that is worth keeping.
local function keep()
  local LEAST_KEPT, MOST_WORDS = 50, 4000
  local last_ms = now_ms + MINUTE_MS

  -- Forgets what is too old, and of the rest the oldest, so that no user grows without bound.
  local function forget(old)
    if #old == 0 then return end
    local kept = math.max(LEAST_KEPT, limit)
    table.sort(old, function(one, other) return one.at_ms < other.at_ms end)
    for i, one in ipairs(old) do
      if one.at_ms + request.retention_ms < now_ms or #old - i >= kept then unset(one.field) end
    end
  end

  local function go_through_all()
    local old, known = {}, {}
    for id, stream in pairs(streams) do
      if not is_live(stream) then
        old[#old + 1] = {field = 's:' .. id, at_ms = stream.expires_ms}
        if not stream.told then
          stream.told = true
          expired_count = expired_count + 1
          set('s:' .. id, stream)
        end
      end
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
  end

  -- In parts, because Lua passes no more than some 8,000 words to a call.
  local function in_parts(write, command, words)
    for first = 1, #words, MOST_WORDS do
      write(command, USER, unpack(words, first, math.min(first + MOST_WORDS - 1, #words)))
    end
  end

  if is_whole then
    go_through_all()
  else
    last_ms = math.max(last_ms, now_ms + request.ttl_ms + request.retention_ms)
  end
  if not tally and (size > FEW or is_there.n) then tally = open_tally() end
  if tally then tally.keep() end
  in_parts(record, 'HSET', changes)
  in_parts(remove, 'HDEL', leavings)
  let_expire('PEXPIRE', USER, string.format('%.0f', last_ms - now_ms))
  carry_out()
end

-- The operation tells a request that is asked again, because its reply was lost, from a second one.
local function end_stream(id, reason, by, operation)
  local stream = streams[id]
  if stream and tally then tally.remove(stream) end
  if stream and not is_live(stream) and not stream.told then expired_count = expired_count + 1 end
  ended[id] = {reason = reason, at_ms = now_ms, by = by, operation = operation}
  streams[id] = nil
  set('e:' .. id, ended[id])
  unset('s:' .. id)
end

-- As the limit counts: streams, or distinct devices.
local function active()
  if not is_whole then return tally.active() end
  local devices, total = {}, 0
  for _, stream in pairs(streams) do
    if is_live(stream) then
      if request.count_by ~= 'device' or not devices[stream.device] then total = total + 1 end
      devices[stream.device] = true
    end
  end
  return total
end

local function answer(status, more)
  local result = more or {}
  result.status, result.limit, result.active, result.now_ms = status, limit, active(), now_ms
  result.expired = expired_count
  return cjson.encode(result)
end
