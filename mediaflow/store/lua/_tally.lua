-- Lets a request of a user who has much read a few fields instead of all: what the rules count is kept beside the streams.
-- Fields: c:<place> what a rule counts of one value of its attribute, d:<place>:<device> the streams of a device there,
-- n what the counts rest on {settings_id read_ms until_ms newest_ms size whole}, times of Redis's clock.
--
-- A count may be too high, for a while after a stream expired, and never too low: so whoever fits has room indeed, and
-- who does not is refused only by what all fields say. They are read again whenever one that counts may have expired,
-- but no sooner than a millisecond a field after the last time, which bounds what that takes, whatever the user does.

local FEW = 16
local THE_LIMIT = 'c:1:'
local newest_ms = 0  -- when the latest stream began
local tally          -- of a user who has much

local function open_tally()
  local self = {}
  local until_ms = now_ms + request.ttl_ms
  local counts = setmetatable({}, {__index = counted})

  -- Where the rules count a stream.
  local function places(stream)
    local found = {}
    for number, rule in ipairs(request.rules) do
      if matches(stream, rule) then
        local value = rule.attribute and stream.attributes[rule.attribute] or ''
        local place = {rule = rule, total = 'c:' .. number .. ':' .. value}
        if rule.count == 'devices' then
          place.device = 'd:' .. number .. ':' .. #value .. ':' .. value .. ':' .. stream.device
        end
        found[#found + 1] = place
      end
    end
    return found
  end

  local function count(stream, by)
    for _, place in ipairs(places(stream)) do
      local is_other = true
      if place.device then
        local before = counts[place.device] or 0
        counts[place.device] = before + by
        is_other = before == 0 or before + by == 0
      end
      if is_other then counts[place.total] = (counts[place.total] or 0) + by end
    end
  end

  local function count_all()
    for _, stream in pairs(streams) do
      newest_ms = math.max(newest_ms, stream.started_ms)
      if is_live(stream) then
        count(stream, 1)
        until_ms = math.min(until_ms, stream.expires_ms)
      end
    end
  end

  local function keep_head()
    local head = tally_head or {}
    if not is_whole and head.size == size and head.until_ms == until_ms then return end
    if not is_there.n then size = size + 1 end
    is_there.n = true
    set('n', {settings_id = request.settings_id, read_ms = is_whole and now_ms or head.read_ms, until_ms = until_ms,
      newest_ms = newest_ms, size = size, whole = is_whole and size or head.whole})
  end

  -- Reads these fields, and what is counted where this stream is, if one is given.
  function self.read(fields, stream)
    for _, place in ipairs(stream and places(stream) or {}) do
      fields[#fields + 1] = place.total
      fields[#fields + 1] = place.device
    end
    fields[#fields + 1] = THE_LIMIT
    fields[#fields + 1] = 'n'
    read(fields)
    if tally_head then newest_ms, until_ms = tally_head.newest_ms, tally_head.until_ms end
  end

  function self.is_trusted()
    local head = tally_head
    return head and head.settings_id == request.settings_id
      and head.size == size                -- nobody wrote who keeps no counts
      and size <= 2 * head.whole + FEW     -- what is old is forgotten in time
      and head.read_ms <= now_ms           -- the clock was not set back
      and (now_ms < head.until_ms or now_ms < head.read_ms + size)
  end

  -- Whether every rule surely has room for one more.
  function self.fits(stream)
    for _, place in ipairs(places(stream)) do
      local is_known = place.device and (counts[place.device] or 0) > 0
      if (counts[place.total] or 0) + (is_known and 0 or 1) > most(place.rule) then return false end
    end
    return true
  end

  function self.add(stream)
    count(stream, 1)
    newest_ms, until_ms = stream.started_ms, math.min(until_ms, stream.expires_ms)
  end

  function self.remove(stream) count(stream, -1) end

  function self.active() return counts[THE_LIMIT] or 0 end

  function self.keep()
    local is_many = size > FEW
    if is_whole then
      counts, until_ms = {}, now_ms + request.ttl_ms
      if is_many then count_all() end
      for field in pairs(counted) do counts[field] = counts[field] or 0 end
    end
    for field, value in pairs(counts) do
      if value > 0 and value ~= counted[field] then set(field, value) end
      if value <= 0 and is_there[field] then unset(field) end
    end
    if is_many then keep_head() elseif is_there.n then unset('n') end
  end

  return self
end

-- Only before anything is planned.
local function look_at_all()
  read_all()
  tally = nil
  for _, stream in pairs(streams) do newest_ms = math.max(newest_ms, stream.started_ms) end
end

-- Reads what a request has to know: these fields, and what is counted where a stream is; or all.
local function look(fields, stream)
  if size > FEW then
    tally = open_tally()
    tally.read(fields, stream)
  end
  if not (tally and tally.is_trusted()) then look_at_all() end
end
