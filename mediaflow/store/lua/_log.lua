-- The log: every change of state is appended by the script that makes it.

local function log(event, call_id, session_id, instance, fence, reason)
  announce('XADD', LOG, 'MAXLEN', '~', LOG_LENGTH, '*', 'event', event, 'call', call_id, 'session', session_id,
    'instance', instance, 'fence', integer(fence), 'reason', reason)
end
