-- Register or refresh an instance; a newer process with the same id supersedes an older one.
-- KEYS: registry
-- ARGV: registry ttl_ms instance token incarnation state free report
--   (incarnation 0: which one may it take? That changes nothing, so that it may come late and more than once)
-- RETURNS: alive incarnation; superseded incarnation; or: first incarnation
-- USES: registry time plan log
-- FLAGS: allow-oom

local ttl_ms, instance, token = tonumber(ARGV[3]), ARGV[4], ARGV[5]
local incarnation, state, free, report = tonumber(ARGV[6]), ARGV[7], tonumber(ARGV[8]), ARGV[9]

local known = read_record(instance)
if incarnation == 0 then
  -- By the token a process finds the one that it has already, if it never heard so.
  if known and known.token == token then return {'first', integer(known.incarnation)} end
  return {'first', integer(math.max((known and known.incarnation or 0) + 1, now_us))}
end
if known and (known.incarnation > incarnation or (known.incarnation == incarnation and known.token ~= token)) then
  return {'superseded', integer(known.incarnation)}
end

add('ZADD', INSTANCES, integer(lease_ms + ttl_ms), instance)
record('HSET', RECORDS, instance, table.concat({integer(incarnation), token, state, free, report}, '|'))
record('HSET', CLOCK, 'lease_ms', integer(lease_ms), 'wall_ms', integer(wall_ms))
local joined = not known or known.incarnation ~= incarnation
local drains = state == 'draining' and not (known and known.state == 'draining')
if joined then log('instance.joined', '', '', instance, 0, '') end
if drains then log('instance.draining', '', '', instance, 0, '') end
-- Only what changes decisions is worth a message to every balancer and watchdog.
-- Who drains is named: it gives its sessions away next, and they shall not be given back to it.
if drains then
  announce('PUBLISH', HINTS, 'draining ' .. instance)
elseif joined or (known.free == 0) ~= (free == 0) then
  announce('PUBLISH', HINTS, 'instances')
end
carry_out()
return {'alive', integer(incarnation)}
