-- Begin a stream if every rule allows it, ending others in the same step if the request says so.
-- KEYS: user limit
-- ARGV: request {id device attributes metadata code issued_ms ttl_ms rules settings_id limit default_limit count_by throttle
--   retention_ms on_limit terminate replaces key digest}
-- RETURNS: JSON {status limit active now_ms expired …}: started id issued_ms expires_ms taken_over; repeated likewise;
--   refused violations conflicts; throttled retry_ms; conflict
-- USES: plan streams rules tally keep

local new = {device = request.device, attributes = request.attributes, metadata = request.metadata,
  code = request.code, issued_ms = request.issued_ms, expires_ms = now_ms + request.ttl_ms}
look({'s:' .. request.id, 'e:' .. request.id, 'r:user', request.key and 'k:' .. request.key}, new)
if #request.terminate > 0 or request.replaces or tally and not tally.fits(new) then look_at_all() end

-- Asked again because the reply was lost: the stream is there already, and must not be in its own way.
-- It may even have been ended since, which its next heartbeat will say.
if streams[request.id] or ended[request.id] then
  local expires_ms = streams[request.id] and streams[request.id].expires_ms or now_ms
  return answer('started', {id = request.id, issued_ms = request.issued_ms, expires_ms = expires_ms, taken_over = 0})
end

local wait_ms = throttle('user')
if wait_ms then
  keep()
  return answer('throttled', {retry_ms = wait_ms})
end

local known = request.key and keys[request.key]
if known then
  local status, more = 'repeated', {id = known.id, expires_ms = now_ms, issued_ms = known.issued_ms}
  if known.digest ~= request.digest then status, more = 'conflict', {} end
  read({'s:' .. known.id})
  local stream = streams[known.id]
  if stream then more.expires_ms = stream.expires_ms end
  keep()
  return answer(status, more)
end

-- Later than any other, also within one millisecond: the order of starts decides who goes first.
new.started_ms = math.max(now_ms, newest_ms + 1)

-- Of a user who has much it is none, where the rules surely have room: then nothing here has to go.
local playing = live_streams()
local going, taken_over = {}, 0
local function take_over(id)
  going[id] = true
  if playing[id] then taken_over = taken_over + 1 end
  playing[id] = nil
end
for _, code in ipairs(request.terminate) do
  for id, stream in pairs(playing) do
    if stream.code == code then take_over(id) end
  end
end
-- Also one that expired or is not known (yet): its late heartbeat must not bring it back beside the new one.
if request.replaces and not ended[request.replaces] then take_over(request.replaces) end

local function oldest(ids)
  table.sort(ids, function(one, other)
    local a, b = streams[one], streams[other]
    if a.started_ms ~= b.started_ms then return a.started_ms < b.started_ms end
    return one < other
  end)
  return ids[1]
end

local violated = is_whole and violations(playing, new) or {}
while #violated > 0 and request.on_limit == 'stop_oldest' and #violated[1].streams > 0 do
  take_over(oldest(violated[1].streams))
  violated = violations(playing, new)
end

if #violated > 0 then
  -- What is refused changes nothing: the streams that would have gone are shown as well.
  violated = violations(live_streams(), new)
  local conflicts = {}
  for _, one in ipairs(violated) do
    for _, id in ipairs(one.streams) do conflicts[id] = streams[id] end
  end
  keep()
  return answer('refused', {violations = violated, conflicts = conflicts})
end

for id in pairs(going) do
  end_stream(id, 'taken_over', {device = request.device, id = request.id, at_ms = now_ms})
end
streams[request.id] = new
if tally then tally.add(new) end
set('s:' .. request.id, new)
if request.key then
  keys[request.key] = {id = request.id, digest = request.digest, issued_ms = request.issued_ms, at_ms = now_ms}
  set('k:' .. request.key, keys[request.key])
end
keep()
return answer('started', {id = request.id, issued_ms = request.issued_ms, expires_ms = new.expires_ms,
  taken_over = taken_over})
