-- Make a partition, or find out what it is.
--
-- KEYS  1 meta     HASH schema, cluster, partitions
--       2 clock    HASH offset, latest
-- ARGV  1 schema   that a new one is given
--       2 cluster  likewise
--       3 partitions  likewise: how many the storage has; 0 = none may be made
--       4 least    schema that an older one is raised to; it never falls
--
-- Returns  schema, cluster, partitions, the partition's time, the latest time that was told, whether
--          all partitions were made; or nothing, if it is not there and may not be made

if redis.call('EXISTS', KEYS[1]) == 0 then
  if ARGV[3] == '0' then
    return {}
  end
  redis.call('HSET', KEYS[1], 'schema', ARGV[1], 'cluster', ARGV[2], 'partitions', ARGV[3])
end
if tonumber(redis.call('HGET', KEYS[1], 'schema')) < tonumber(ARGV[4]) then
  redis.call('HSET', KEYS[1], 'schema', ARGV[4])
end
local facts = redis.call('HMGET', KEYS[1], 'schema', 'cluster', 'partitions', 'complete')
local kept = redis.call('HMGET', KEYS[2], 'offset', 'latest')
local host = redis.call('TIME')
local latest = tonumber(kept[2]) or 0
local time = math.max(host[1] + host[2] / 1000000 + (tonumber(kept[1]) or 0), latest)
return {
  facts[1], facts[2], facts[3] or '1', string.format('%.6f', time), string.format('%.6f', latest),
  facts[4] and 1 or 0,
}
