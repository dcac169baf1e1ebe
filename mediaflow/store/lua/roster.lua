-- Read instances of the registry, and keep its lease time going: with nobody left to beat it would stand still, and
-- the last ones would look alive for ever.
-- KEYS: registry
-- ARGV: registry, then each instance that is wanted
-- RETURNS: lease_ms records[record or nothing…] expiries[score or nothing…]
-- USES: registry time plan
-- FLAGS: allow-oom

local records, expiries = {}, {}
if #ARGV > 2 then
  records = redis.call('HMGET', RECORDS, unpack(ARGV, 3))
  for index = 3, #ARGV do
    -- One by one: ZMSCORE would be another right that a user of Redis has to be given.
    expiries[index - 2] = redis.call('ZSCORE', INSTANCES, ARGV[index])
  end
end
record('HSET', CLOCK, 'lease_ms', integer(lease_ms), 'wall_ms', integer(wall_ms))
carry_out()
return {integer(lease_ms), records, expiries}
