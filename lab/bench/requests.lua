-- Requests of wrk. With arguments, FILE and perhaps RATE, each is a new order: the first line of FILE is its body, each
-- other one the token of a customer. They leave by the clock, RATE a second, whatever the answers do, as long as
-- connections are free; or as fast as connections get answers.
local threads = 0

function setup(thread)
  threads = threads + 1
  thread:set("place", threads)
end

function init(args)
  if #args == 0 then return end
  local body, tokens, number = nil, {}, 0
  for line in io.lines(args[1]) do
    if body then tokens[#tokens + 1] = line else body = line end
  end
  math.randomseed(os.time() + place * 7919)
  local run = math.random(1, 2^30)
  function request()
    number = number + 1
    local headers = {
      ["Content-Type"] = "application/json",
      ["Authorization"] = "Bearer " .. tokens[number % #tokens + 1],
      ["Idempotency-Key"] = run .. "-" .. place .. "-" .. number,
    }
    return wrk.format("POST", "/api/v1/orders", headers, body)
  end
  if args[2] then pace(tonumber(args[2])) end
end

-- Before each request, wrk asks how many milliseconds to wait.
function pace(rate)
  local ffi = require("ffi")
  ffi.cdef[[ typedef struct { long seconds; long micros; } moment; int gettimeofday(moment *now, void *zone); ]]
  local moment, due = ffi.new("moment"), 0
  local function now()
    ffi.C.gettimeofday(moment, nil)
    return tonumber(moment.seconds) * 1000 + tonumber(moment.micros) / 1000
  end
  function delay()
    if due == 0 then due = now() end
    due = math.max(due + 1000 / rate, now() - 1000)
    return math.max(0, math.floor(due - now()))
  end
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format("RESULT %d %d %d %d %f %f\n", summary.requests, summary.duration, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
