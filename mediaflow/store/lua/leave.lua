-- Strike an instance off the registry, unless a newer incarnation is there.
-- KEYS: registry
-- ARGV: registry instance incarnation reason
-- RETURNS: left; or: kept
-- USES: registry time plan log
-- FLAGS: allow-oom

local instance, incarnation, reason = ARGV[3], tonumber(ARGV[4]), ARGV[5]

local known = read_record(instance)
if not known or known.incarnation > incarnation then return {'kept'} end
record('HDEL', RECORDS, instance)
remove('ZREM', INSTANCES, instance)
log('instance.left', '', '', instance, 0, reason)
announce('PUBLISH', HINTS, 'instances')
carry_out()
return {'left'}
