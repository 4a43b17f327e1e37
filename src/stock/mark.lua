-- Marks this server as the one that gives leases, from ARGV[2] ms on, unless it is marked already. KEYS[1]: the marker. ARGV: run_id, ms.
if redis.call('HGET', KEYS[1], 'run_id') == ARGV[1] then
  return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[1], 'run_id', ARGV[1], 'gives_from', now + ARGV[2])
return 1
