-- How much waits and runs in a partition.  Nothing is written.
--
-- KEYS  1 running  SET of leased attempts
--       2 timers   ZSET by time
--       ...        SETs of instances, as many as ARGV[3] says
--       ...        ZSETs of queued tasks, by priority; members begin with when they were dispatched
-- ARGV  1 overdue  timers of this time and before are
--       2 most     of how many priorities of a queue the oldest task is looked for
--       3 states   how many SETs of instances there are
--       4 looks    how many priorities are looked for beyond the first, in all queues
--
-- Returns  how many are in each of the first, and for each queue its length and when its oldest
--          task was dispatched, as members have it ('' = there is none)

local found = {
  redis.call('SCARD', KEYS[1]),
  redis.call('ZCOUNT', KEYS[2], '-inf', ARGV[1]),
}
local states = tonumber(ARGV[3])
for at = 3, 2 + states do
  found[at] = redis.call('SCARD', KEYS[at])
end

local looks = tonumber(ARGV[4])

-- The first one of a priority is its oldest.
local function oldest(queue)
  local oldest, from = '', '-inf'
  for turn = 1, tonumber(ARGV[2]) do
    if turn > 1 then
      if looks == 0 then
        break
      end
      looks = looks - 1
    end
    local first = redis.call('ZRANGEBYSCORE', queue, from, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
    if not first[1] then
      break
    end
    local dispatched = string.sub(first[1], 1, 16)
    if oldest == '' or dispatched < oldest then
      oldest = dispatched
    end
    from = '(' .. first[2]
  end
  return oldest
end

for at = 3 + states, #KEYS do
  found[#found + 1] = redis.call('ZCARD', KEYS[at])
  found[#found + 1] = oldest(KEYS[at])
end
return found
