-- Advance the lease time of a partition, forget calls whose tombstones are gone, and look at the indexes.
-- KEYS: partition
-- ARGV: partition limit
-- RETURNS: lease_ms pending_count expired[member…] first_expiry waiting[member score…] first_backoff
--   leased_count
-- USES: partition time plan
-- FLAGS: allow-oom

local limit = tonumber(ARGV[6])
local now = integer(lease_ms)

local expired = redis.call('ZRANGEBYSCORE', LEASES, '-inf', now, 'LIMIT', 0, limit)
local next_lease = redis.call('ZRANGEBYSCORE', LEASES, '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
local waiting = redis.call('ZRANGEBYSCORE', PENDING, '-inf', now, 'WITHSCORES', 'LIMIT', 0, limit)
local next_waiting = redis.call('ZRANGEBYSCORE', PENDING, '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
local forgotten = redis.call('ZRANGEBYSCORE', ENDED, '-inf', integer(wall_ms), 'LIMIT', 0, limit)
if #forgotten > 0 then
  remove('ZREM', CALLS, unpack(forgotten))
  remove('ZREM', ENDED, unpack(forgotten))
end
record('HSET', CLOCK, 'lease_ms', now, 'wall_ms', integer(wall_ms))
local pending, leased = redis.call('ZCARD', PENDING), redis.call('ZCARD', LEASES)
carry_out()
return {now, integer(pending), expired, next_lease[2] or '', waiting, next_waiting[2] or '', integer(leased)}
