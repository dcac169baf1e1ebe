-- End a stream; its late heartbeats stay without effect.
-- KEYS: user limit
-- ARGV: request {id operation ttl_ms rules settings_id default_limit count_by retention_ms}
-- RETURNS: JSON {status limit active now_ms expired …}: stopped; ended reason by
-- USES: plan streams rules tally keep
-- FLAGS: allow-oom

look({'s:' .. request.id, 'e:' .. request.id})
local stream = streams[request.id]
if tally and stream then
  if is_live(stream) then tally.read({}, stream) else look_at_all() end
end

local over = ended[request.id]
if over and over.operation == request.operation then return answer('stopped') end
if over then
  keep()
  return answer('ended', {reason = over.reason, by = over.by})
end
-- One that is not there at all was lost by Redis, or began while Redis was away: it is stopped like a live one.
local expired = stream and not is_live(stream)
end_stream(request.id, 'stopped', nil, request.operation)
keep()
if expired then return answer('ended', {reason = 'expired'}) end
return answer('stopped')
