-- Renews a lease on all of its products, or on none. KEYS: one hash a product. ARGV: token, ms. Answers 1 or 0.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for _, key in ipairs(KEYS) do
  local lease = redis.call('HMGET', key, 'token', 'deadline')
  if lease[1] ~= ARGV[1] or tonumber(lease[2]) <= now then
    return 0
  end
end
for _, key in ipairs(KEYS) do
  redis.call('HSET', key, 'deadline', now + ARGV[2])
end
return 1
