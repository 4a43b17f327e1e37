-- One exchange of leases: releases first, then takes in the order of their age; each take gets all of its products or none.
-- KEYS: one hash a product. ARGV[1]: JSON { channel, releases: [[key, product, token]], takes: [{ token, ms, waited, elder, keys, products, calls }] }
-- where key is an index into KEYS. A hash has: token, deadline (ms by this server's clock), call (what the lease covers), wanted
-- (somebody waits: to be told), elder, elder_since, elder_until (one that has waited long and comes first).
-- Answers one array a take: { 1, key, call, ... } granted, with the calls of leases that had run out; or { 0 }.
local input = cjson.decode(ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

for _, release in ipairs(input.releases) do
  local key, product, token = KEYS[release[1]], release[2], release[3]
  local lease = redis.call('HMGET', key, 'token', 'wanted', 'elder')
  if lease[1] == token then
    redis.call('HDEL', key, 'token', 'deadline', 'call')
  end
  if lease[3] == token then
    redis.call('HDEL', key, 'elder', 'elder_since', 'elder_until')
  end
  if lease[2] and (lease[1] == token or lease[3] == token) then
    redis.call('HDEL', key, 'wanted')
    redis.call('PUBLISH', input.channel, product)
  end
end

local answers = {}
for n, take in ipairs(input.takes) do
  local since = now - take.waited
  local free, leases = true, {}
  for i, k in ipairs(take.keys) do
    local lease = redis.call('HMGET', KEYS[k], 'token', 'deadline', 'call', 'elder', 'elder_since', 'elder_until')
    leases[i] = lease
    local elder = lease[4] and lease[4] ~= take.token and tonumber(lease[6]) > now and tonumber(lease[5]) <= since
    if (lease[1] and tonumber(lease[2]) > now) or elder then
      free = false
    end
  end
  if free then
    local answer = { 1 }
    for i, k in ipairs(take.keys) do
      local lease = leases[i]
      if lease[1] and lease[3] ~= '' then
        answer[#answer + 1] = i
        answer[#answer + 1] = lease[3]
      end
      redis.call('HSET', KEYS[k], 'token', take.token, 'deadline', now + take.ms, 'call', take.calls[i])
      if lease[4] == take.token then
        redis.call('HDEL', KEYS[k], 'elder', 'elder_since', 'elder_until')
      end
    end
    answers[n] = answer
  else
    for i, k in ipairs(take.keys) do
      local lease = leases[i]
      redis.call('HSET', KEYS[k], 'wanted', 1)
      if take.elder and (not lease[4] or lease[4] == take.token or tonumber(lease[6]) <= now or since < tonumber(lease[5])) then
        redis.call('HSET', KEYS[k], 'elder', take.token, 'elder_since', since, 'elder_until', now + 1000)
      end
    end
    answers[n] = { 0 }
  end
end
return answers
