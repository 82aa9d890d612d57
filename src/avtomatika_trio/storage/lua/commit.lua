-- Commit one operation: if everything that it has read still is as it was, do all of its writes.
--
-- KEYS  1 meta     HASH schema, cluster
--       2 clock    HASH offset, latest
--       3 done     begins the key of what tells that a call was done, and at which time
-- ARGV  1 cluster  that the caller has opened
--       2 now      the time that the operation went by
--       3 slack    how far behind the partition's time that may be; '' = the caller's clock is it
--       4 channel  of news
--       5 news     '' = none
--       6 token    of this call: should its reply be lost, it is made again
--       7 step     MessagePack: an array of checks and an array of commands
--
-- A check is    record KEY TOKEN          the record has this version ('' = is not there)
--               set KEY MEMBER...         the set has these members and no others
--               score KEY MEMBER SCORE    the member has this score ('' = is not there)
-- A command is  NAME ARGUMENT...          of Redis, or one of ours:
--               NUMBERED STREAM COUNTER BODY         add a row under the next number
--               PLACED STREAM COUNTER BODY NUMBER    put a row under its own number
--               LINEUP ZSET COUNTER MEMBER           put the member at the end
--               RAISED TIME                          the partition's time is not before this
--               FORGET ID TASKS ATTEMPTS TASK ATTEMPT FAN KEY...
--                   delete all that is of a job: what is in the sets TASKS and ATTEMPTS, whose
--                   keys begin with TASK and ATTEMPT; the fan-outs of its tasks, whose keys begin
--                   with FAN; those sets; and the keys
--
-- Returns       {'done', time, KEY, ...}           with the records that were forgotten
--               {'stranger', cluster}              this is not the storage that was opened
--               {'time', time}                     the operation was run too long ago
--               {'stale', time, KEY, VALUE, ...}   what was not as expected, and is now
--
-- Nothing is written before everything is known to be right: Redis takes nothing back.

local token_bytes = 20
local most_ahead = 600

-- First, since the call that is asked about may be the one that has changed the cluster's id.
local done_key = KEYS[3] .. ARGV[6]
local done = redis.call('GET', done_key)
if done then
  return {'done', done}
end
local cluster = redis.call('HGET', KEYS[1], 'cluster')
if cluster ~= ARGV[1] then
  return {'stranger', cluster or ''}
end

-- The partition's time never goes back: where the server's clock was set back, or another server
-- took over whose clock is behind, it goes on from where it was.  What callers take for the
-- time was once told by the partition, so whoever is ahead of it knows more than it does.
local given = ARGV[3] == ''
local now = tonumber(ARGV[2])
local host, offset, time = 0, 0, now
if not given then
  local parts = redis.call('TIME')
  host = parts[1] + parts[2] / 1000000
  local kept = redis.call('HMGET', KEYS[2], 'offset', 'latest')
  offset = tonumber(kept[1]) or 0
  time = math.max(host + offset, tonumber(kept[2]) or 0)
  if now < time - ARGV[3] or now > time + most_ahead then
    return {'time', string.format('%.6f', time)}
  end
  time = math.max(time, now)
end
local time_text = string.format('%.6f', time)

local function keep_time()
  redis.call('SET', done_key, time_text, 'EX', 60)
  if not given and time - host > offset + 0.5 then
    redis.call('HSET', KEYS[2], 'offset', string.format('%.6f', time - host), 'latest', time_text)
  else
    redis.call('HSET', KEYS[2], 'latest', time_text)
  end
end

local function holds(check)
  local kind, key = check[1], check[2]
  if kind == 'record' then
    return redis.call('GETRANGE', key, 0, token_bytes - 1) == check[3]
  elseif kind == 'set' then
    if redis.call('SCARD', key) ~= #check - 2 then
      return false
    end
    for at = 3, #check do
      if redis.call('SISMEMBER', key, check[at]) == 0 then
        return false
      end
    end
    return true
  end
  local score = redis.call('ZSCORE', key, check[3])
  return (score and tonumber(score)) == (tonumber(check[4]) or false)
end

-- Numbers go on from the time in microseconds: so they grow also where a failover has lost those
-- that were given last.
local numbers = {}

local function next_number(counter)
  local last = numbers[counter] or tonumber(redis.call('GET', counter)) or 0
  numbers[counter] = math.max(last + 1, math.floor(time * 1000000))
  return string.format('%.0f', numbers[counter])
end

local function number_of(entry)
  return tonumber(string.match(entry[1], '^%d+'))
end

-- Entries are only added at a stream's end, so one that belongs before it takes all of them.
local function put_between(stream, number, body)
  local entries = redis.call('XRANGE', stream, '-', '+')
  redis.call('DEL', stream)
  local is_put = false
  for _, entry in ipairs(entries) do
    if not is_put and number_of(entry) >= tonumber(number) then
      redis.call('XADD', stream, number .. '-0', 'row', body)
      is_put = true
    end
    if number_of(entry) ~= tonumber(number) then
      redis.call('XADD', stream, entry[1], unpack(entry[2]))
    end
  end
end

local forgotten = {}

local function forget(id, tasks, attempts, task, attempt, fan, ...)
  local gone = {tasks, attempts, ...}
  local records = #gone + 1
  local dispatches = {}
  for _, it in ipairs(redis.call('SMEMBERS', tasks)) do
    gone[#gone + 1] = task .. it
    local dispatch = string.match(it, '^%-(%d+)%-%d+$', #id + 1)
    if dispatch and not dispatches[dispatch] then
      dispatches[dispatch] = true
      gone[#gone + 1] = fan .. dispatch
    end
  end
  for _, it in ipairs(redis.call('SMEMBERS', attempts)) do
    gone[#gone + 1] = attempt .. it
  end
  for at = 1, #gone, 1000 do
    redis.call('UNLINK', unpack(gone, at, math.min(at + 999, #gone)))
  end
  for at = records, #gone do
    forgotten[#forgotten + 1] = gone[at]
  end
end

local own = {
  FORGET = forget,
  NUMBERED = function(stream, counter, body)
    redis.call('XADD', stream, next_number(counter) .. '-0', 'row', body)
  end,
  PLACED = function(stream, counter, body, number)
    local highest = numbers[counter] or tonumber(redis.call('GET', counter)) or 0
    numbers[counter] = math.max(highest, tonumber(number))
    local last = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
    if not last or number_of(last) < tonumber(number) then
      redis.call('XADD', stream, number .. '-0', 'row', body)
      return
    end
    local there = redis.call('XRANGE', stream, number .. '-0', number .. '-0')[1]
    if not there or there[2][2] ~= body then
      put_between(stream, number, body)
    end
  end,
  LINEUP = function(zset, counter, member)
    redis.call('ZADD', zset, redis.call('INCR', counter), member)
  end,
  RAISED = function(latest)
    time = math.max(time, tonumber(latest))
    time_text = string.format('%.6f', time)
    keep_time()
  end,
}

local checks, commands = unpack(cmsgpack.unpack(ARGV[7]))
local stale = {'stale', time_text}
for _, check in ipairs(checks) do
  if not holds(check) then
    stale[#stale + 1] = check[2]
    stale[#stale + 1] = check[1] == 'record' and redis.call('GET', check[2])
  end
end
if #stale > 2 then
  return stale
end
if #commands > 0 then
  keep_time()
  for _, command in ipairs(commands) do
    local special = own[command[1]]
    if special then
      special(unpack(command, 2))
    else
      redis.call(unpack(command))
    end
  end
  for counter, number in pairs(numbers) do
    redis.call('SET', counter, string.format('%.0f', number))
  end
end
if ARGV[5] ~= '' then
  redis.pcall('PUBLISH', ARGV[4], ARGV[5])
end
local reply = {'done', time_text}
for _, key in ipairs(forgotten) do
  reply[#reply + 1] = key
end
return reply
