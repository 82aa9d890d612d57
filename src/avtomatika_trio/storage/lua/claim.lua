-- Claim jobs that are ready; first offer those again whose claim has ended.
--
-- KEYS  1 done        begins the key of what a call has claimed
--       2 clock       HASH offset, latest
--       3 blueprints  SET of those of which jobs were ready
--       4 ready       begins the keys of what is ready, by blueprint: ZSET by place: job ids
--       5 claims      ZSET by end: job ids
--       6 claimed     HASH job id -> version of the record, owner and blueprint
--       7 jobs        begins the keys of jobs
-- ARGV  1 now         where the caller's clock is to be gone by, else ''
--       2 owner
--       3 most        how many to claim
--       4 seconds     how long a claim holds
--       5 token       of this call: should its reply be lost, it is made again
--       6...          blueprints of which the owner wants no jobs
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

local function offer_again()
  local ended = redis.call('ZRANGEBYSCORE', KEYS[5], '-inf', time_text, 'LIMIT', 0, 1000)
  for at = #ended, 1, -1 do
    local mark = redis.call('HGET', KEYS[6], ended[at])
    redis.call('ZREM', KEYS[5], ended[at])
    redis.call('HDEL', KEYS[6], ended[at])
    if mark then
      local ready = KEYS[4] .. string.match(mark, '^[^ ]* [^ ]* (.*)$')
      local first = redis.call('ZRANGE', ready, 0, 0, 'WITHSCORES')
      redis.call('ZADD', ready, math.min(tonumber(first[2]) or 0, 0) - 1, ended[at])
    end
  end
end

-- Ids and blueprints of the first jobs that the owner wants, over all blueprints.
local function take()
  local unwanted, heads, taken = {}, {}, {}
  for at = 6, #ARGV do
    unwanted[ARGV[at]] = true
  end
  for _, blueprint in ipairs(redis.call('SMEMBERS', KEYS[3])) do
    if not unwanted[blueprint] then
      local head = redis.call('ZRANGE', KEYS[4] .. blueprint, 0, 0, 'WITHSCORES')
      heads[blueprint] = tonumber(head[2])
    end
  end
  while #taken < tonumber(ARGV[3]) do
    local next_one
    for blueprint, place in pairs(heads) do
      if not next_one or place < heads[next_one] then
        next_one = blueprint
      end
    end
    if not next_one then
      break
    end
    local popped = redis.call('ZPOPMIN', KEYS[4] .. next_one)
    taken[#taken + 1] = {popped[1], next_one}
    local head = redis.call('ZRANGE', KEYS[4] .. next_one, 0, 0, 'WITHSCORES')
    heads[next_one] = tonumber(head[2])
  end
  return taken
end

local done_key = KEYS[1] .. ARGV[5]
local done = redis.call('GET', done_key)
local taken
if done then
  taken = cjson.decode(done)
else
  offer_again()
  taken = take()
  if #taken > 0 then
    redis.call('SET', done_key, cjson.encode(taken), 'EX', 60)
  end
end

local reply = {time_text, ''}
for _, one in ipairs(taken) do
  local id, blueprint = one[1], one[2]
  local record = redis.call('GET', KEYS[7] .. id)
  if record then
    local mark = string.sub(record, 1, token_bytes) .. ' ' .. ARGV[2] .. ' ' .. blueprint
    if not done or redis.call('HGET', KEYS[6], id) == mark then
      redis.call('HSET', KEYS[6], id, mark)
      redis.call('ZADD', KEYS[5], string.format('%.6f', time + ARGV[4]), id)
      reply[#reply + 1] = id
      reply[#reply + 1] = record
    end
  end
end
local next_end = redis.call('ZRANGE', KEYS[5], 0, 0, 'WITHSCORES')
reply[2] = next_end[2] or ''
return reply
