-- A key is about to get a tag. KEYS: the tag's members, when it was last invalidated. ARGV[1]: the key.
local gone = redis.call('GET', KEYS[2]) or '0'
redis.call('ZADD', KEYS[1], gone, ARGV[1])
return gone
