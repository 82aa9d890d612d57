-- Claim jobs that are ready; first offer those again whose claim has ended.
--
-- KEYS  1 done     begins the key of what a call has claimed
--       2 clock    HASH offset, latest
--       3 ready    ZSET by place: job ids
--       4 claims   ZSET by end: job ids
--       5 claimed  HASH job id -> owner and version of the record
--       6 jobs     what the keys of jobs begin with
-- ARGV  1 now      where the caller's clock is to be gone by, else ''
--       2 owner
--       3 most     how many to claim
--       4 seconds  how long a claim holds
--       5 token    of this call: should its reply be lost, it is made again
--
-- Returns  {time, end of the next claim or '', job id, record, ...}

local token_bytes = 20
local time = tonumber(ARGV[1])
if not time then
  local host = redis.call('TIME')
  local kept = redis.call('HMGET', KEYS[2], 'offset', 'latest')
  time = math.max(host[1] + host[2] / 1000000 + (tonumber(kept[1]) or 0), tonumber(kept[2]) or 0)
end
local time_text = string.format('%.6f', time)

local function mark(record)
  return ARGV[2] .. ' ' .. string.sub(record, 1, token_bytes)
end

local done_key = KEYS[1] .. ARGV[5]
local claimed = redis.call('GET', done_key)
local ids = {}
if claimed then
  ids = cjson.decode(claimed)
else
  local ended = redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', time_text, 'LIMIT', 0, 1000)
  for at = #ended, 1, -1 do
    redis.call('ZREM', KEYS[4], ended[at])
    redis.call('HDEL', KEYS[5], ended[at])
    local first = redis.call('ZRANGE', KEYS[3], 0, 0, 'WITHSCORES')
    redis.call('ZADD', KEYS[3], math.min(tonumber(first[2]) or 0, 0) - 1, ended[at])
  end
  local popped = redis.call('ZPOPMIN', KEYS[3], ARGV[3])
  for at = 1, #popped, 2 do
    ids[#ids + 1] = popped[at]
  end
  if #ids > 0 then
    redis.call('SET', done_key, cjson.encode(ids), 'EX', 60)
  end
end

local reply = {time_text, ''}
for _, id in ipairs(ids) do
  local record = redis.call('GET', KEYS[6] .. id)
  if record and (not claimed or redis.call('HGET', KEYS[5], id) == mark(record)) then
    redis.call('HSET', KEYS[5], id, mark(record))
    redis.call('ZADD', KEYS[4], string.format('%.6f', time + ARGV[4]), id)
    reply[#reply + 1] = id
    reply[#reply + 1] = record
  end
end
local next_end = redis.call('ZRANGE', KEYS[4], 0, 0, 'WITHSCORES')
reply[2] = next_end[2] or ''
return reply
