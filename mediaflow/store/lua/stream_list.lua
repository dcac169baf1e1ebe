-- Read the live streams of a user.
-- KEYS: user limit
-- ARGV: request {limit default_limit count_by}
-- RETURNS: JSON {status limit active now_ms expired streams{id stream}}
-- USES: plan streams rules tally keep

look_at_all()
return answer('listed', {streams = live_streams()})
