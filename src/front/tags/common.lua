-- What is kept upstream of tags, in the database of the keys:
--   corral:tags         set: the tags that have keys
--   corral:members:TAG  sorted set: the keys of a tag, by `corral:seq` when they got it
--   corral:of:KEY       hash: the tags of a key, with the same numbers
--   corral:gone:TAG     when a tag was last invalidated, by `corral:seq`
--   corral:seq          grows with each invalidation
local function members(tag) return 'corral:members:' .. tag end
local function record(key) return 'corral:of:' .. key end

local function leave(tag, key)
    redis.call('ZREM', members(tag), key)
    if redis.call('EXISTS', members(tag)) == 0 then
        redis.call('SREM', 'corral:tags', tag)
    end
end

local function untag(key)
    for _, tag in ipairs(redis.call('HKEYS', record(key))) do leave(tag, key) end
    redis.call('DEL', record(key))
end

-- Gives a key a tag. Returns whether that is new to it.
local function give(key, tag, seq)
    if redis.call('HSETNX', record(key), tag, seq) == 0 then return 0 end
    redis.call('ZADD', members(tag), seq, key)
    redis.call('SADD', 'corral:tags', tag)
    return 1
end

local function now() return redis.call('GET', 'corral:seq') or '0' end
