-- Opens every script on a partition: its keys, its settings, its log.
-- KEYS: clock leases pending calls ended log held …
-- ARGV: cap_ms ttl_ms retention_ms hints_channel inbox_prefix …

local CLOCK, LEASES, PENDING, CALLS, ENDED, LOG, HELD = unpack(KEYS, 1, 7)
local CAP_MS, TTL_MS, RETENTION_MS = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local HINTS, INBOX = ARGV[4], ARGV[5]
local LOG_LENGTH = 10000

-- A key of a wrong type must show before the first write, so each is read once with a command of its type.
redis.call('ZCARD', LEASES)
redis.call('ZCARD', PENDING)
redis.call('ZCARD', CALLS)
redis.call('ZCARD', ENDED)
redis.call('XLEN', LOG)
redis.call('HLEN', HELD)
