-- Renew, settle or release claims, as far as they are still held.
--
-- KEYS  1 clock    HASH offset, latest
--       2 ready    begins the keys of what is ready, by blueprint: ZSET by place: job ids
--       3 claims   ZSET by end: job ids
--       4 claimed  HASH job id -> version of the record, owner and blueprint
-- ARGV  1 now      where the caller's clock is to be gone by, else ''
--       2 what     renew, settle or release
--       3 seconds  how long a renewed claim holds
--       4 channel  of news
--       5 news     of a release
--       6...       job id, what is noted of its claim, blueprint, ...
--
-- Returns  how many were held

local time = tonumber(ARGV[1])
if not time then
  local host = redis.call('TIME')
  local kept = redis.call('HMGET', KEYS[1], 'offset', 'latest')
  time = math.max(host[1] + host[2] / 1000000 + (tonumber(kept[1]) or 0), tonumber(kept[2]) or 0)
end
local held = 0
for at = 6, #ARGV, 3 do
  local id, mark, ready = ARGV[at], ARGV[at + 1], KEYS[2] .. ARGV[at + 2]
  if redis.call('HGET', KEYS[4], id) == mark then
    held = held + 1
    if ARGV[2] == 'renew' then
      redis.call('ZADD', KEYS[3], string.format('%.6f', time + ARGV[3]), id)
    else
      redis.call('ZREM', KEYS[3], id)
      redis.call('HDEL', KEYS[4], id)
      if ARGV[2] == 'release' then
        local first = redis.call('ZRANGE', ready, 0, 0, 'WITHSCORES')
        redis.call('ZADD', ready, math.min(tonumber(first[2]) or 0, 0) - 1, id)
      end
    end
  end
end
if held > 0 and ARGV[2] == 'release' then
  redis.pcall('PUBLISH', ARGV[4], ARGV[5])
end
return held
