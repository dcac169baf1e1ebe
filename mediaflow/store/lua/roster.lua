-- Read all registered instances, and keep the registry's lease time going: with nobody left to beat it would
-- stand still, and the last ones would look alive for ever.
-- KEYS: registry
-- ARGV: registry
-- RETURNS: lease_ms records[instance record…] expiries[instance score…]
-- USES: registry time plan
-- FLAGS: allow-oom

local found = {integer(lease_ms), redis.call('HGETALL', RECORDS), redis.call('ZRANGE', INSTANCES, 0, -1, 'WITHSCORES')}
record('HSET', CLOCK, 'lease_ms', integer(lease_ms), 'wall_ms', integer(wall_ms))
carry_out()
return found
