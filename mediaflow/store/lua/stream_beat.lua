-- Keep a stream alive; one that expired, or that Redis forgot, comes back in the same step if there is room.
-- KEYS: user limit
-- ARGV: request {id device attributes metadata code issued_ms ttl_ms rules settings_id limit default_limit count_by throttle
--   retention_ms readmit}
-- RETURNS: JSON {status limit active now_ms expired …}: alive expires_ms device; readmitted expires_ms device;
--   ended reason by; throttled retry_ms
-- USES: plan streams rules tally keep
-- FLAGS: allow-oom

look({'s:' .. request.id, 'e:' .. request.id, 'r:user', 'r:' .. request.id})
if not (ended[request.id] or streams[request.id] and is_live(streams[request.id])) then look_at_all() end

local stream = streams[request.id]
local function play_on()
  stream.expires_ms = now_ms + request.ttl_ms
  streams[request.id] = stream
  set('s:' .. request.id, stream)
end

local wait_ms = throttle('user') or throttle(request.id)
if wait_ms then
  -- Put off, and not ended: whoever uses the user's minute up must not end what others play.
  if stream and is_live(stream) then play_on() end
  keep()
  return answer('throttled', {retry_ms = wait_ms})
end

local over = ended[request.id]
if over then
  keep()
  return answer('ended', {reason = over.reason, by = over.by})
end

local status = 'alive'
if not (stream and is_live(stream)) then
  stream = stream or {device = request.device, attributes = request.attributes, metadata = request.metadata,
    code = request.code, issued_ms = request.issued_ms, started_ms = request.issued_ms}
  if not request.readmit or #violations(live_streams(), stream) > 0 then
    keep()
    return answer('ended', {reason = 'expired'})
  end
  status, stream.told = 'readmitted', nil
end
play_on()
keep()
return answer(status, {expires_ms = stream.expires_ms, started_ms = stream.started_ms, device = stream.device})
