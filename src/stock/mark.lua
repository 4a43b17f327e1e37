-- Marks this server as the one that gives leases, from ARGV[2] ms on, unless it is marked already. KEYS[1]: the marker. ARGV: its run_id (empty: asked here), ms.
local server = ARGV[1] ~= '' and ARGV[1] or string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
if redis.call('HGET', KEYS[1], 'run_id') == server then
  return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[1], 'run_id', server, 'gives_from', now + ARGV[2])
return 1
