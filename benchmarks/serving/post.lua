-- wrk: POST the files named in a list, one after another, and print what came of it as JSON.
--   wrk -s post.lua URL -- LIST
-- LIST holds lines of a media type, a tab and a path.

local requests, next_one = {}, 0

function init(args)
  for line in io.lines(args[1]) do
    local media_type, path = line:match("^([^\t]+)\t(.+)$")
    local file = assert(io.open(path, "rb"))
    local headers = { ["Content-Type"] = media_type }
    requests[#requests + 1] = wrk.format("POST", nil, headers, file:read("*a"))
    file:close()
  end
end

function request()
  next_one = next_one % #requests + 1
  return requests[next_one]
end

function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests": %d, "seconds": %.6f, "failed": %d, "p50_ms": %.3f, "p99_ms": %.3f}\n',
    summary.requests, summary.duration / 1e6,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
