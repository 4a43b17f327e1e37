-- One exchange of leases: releases first, then takes in the order of their age; each take gets all of its products or none.
-- KEYS: the marker (lease-marker.ts), then one hash a product. ARGV[1]: JSON
--   { server (its run_id; empty: asked here), channel, forgets: [[key, token]], releases: [[key, product, token]], takes: [{ token, ms, waited, elder, keys, calls }] }
-- where key is an index into KEYS. A hash has: token, deadline (ms by this server's clock), call (what the lease covers), older (JSON:
-- the calls of leases that had run out before it, kept until its holder has them on record), wanted (somebody waits: to be told),
-- elder, elder_since, elder_until (one that has waited long and comes first).
-- Answers -1 where this server is not marked as the one that gave the leases; otherwise one array a take: { 1, n, call, ... } granted, with the calls of leases that had run out on its nth key; or { 0 }.
local input = cjson.decode(ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local marker = redis.call('HMGET', KEYS[1], 'run_id', 'gives_from')
local server = input.server ~= '' and input.server or string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
if marker[1] ~= server then
  return -1
end
local gives = tonumber(marker[2]) <= now

for _, forget in ipairs(input.forgets) do
  if redis.call('HGET', KEYS[forget[1]], 'token') == forget[2] then
    redis.call('HDEL', KEYS[forget[1]], 'older')
  end
end

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
  local free, leases = gives, {}
  for i, k in ipairs(take.keys) do
    local lease = redis.call('HMGET', KEYS[k], 'token', 'deadline', 'call', 'elder', 'elder_since', 'elder_until', 'older')
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
      local older = lease[7] and cjson.decode(lease[7]) or {}
      if lease[1] and lease[3] ~= '' then
        older[#older + 1] = lease[3]
        redis.call('HSET', KEYS[k], 'older', cjson.encode(older))
      end
      for _, call in ipairs(older) do
        answer[#answer + 1] = i
        answer[#answer + 1] = call
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
