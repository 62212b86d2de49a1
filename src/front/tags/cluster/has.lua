-- Whether a key is there and has a tag. KEYS: the key, what is kept of its tags. ARGV[1]: the tag.
if redis.call('EXISTS', KEYS[1]) == 0 then
    redis.call('DEL', KEYS[2])
    return 0
end
return redis.call('HEXISTS', KEYS[2], ARGV[1])
