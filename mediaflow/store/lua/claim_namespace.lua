-- Fix the constants of a namespace when it is first used; read them ever after.
-- KEYS: constants
-- ARGV: partitions cap_ms
-- RETURNS: partitions cap_ms, as they are fixed
-- FLAGS: allow-oom

redis.call('HSETNX', KEYS[1], 'partitions', ARGV[1])
redis.call('HSETNX', KEYS[1], 'cap_ms', ARGV[2])
return redis.call('HMGET', KEYS[1], 'partitions', 'cap_ms')
