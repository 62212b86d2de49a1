-- Removes a key, if it got a tag before that was invalidated. KEYS: the key, what is kept of its
-- tags. ARGV: the tag, when it was invalidated.
-- Returns whether it was there, and its tags with their numbers.
local number = redis.call('HGET', KEYS[2], ARGV[1])
if not number or tonumber(number) >= tonumber(ARGV[2]) then return {0} end
local tags = redis.call('HGETALL', KEYS[2])
table.insert(tags, 1, redis.call('UNLINK', KEYS[1]))
redis.call('UNLINK', KEYS[2])
return tags
