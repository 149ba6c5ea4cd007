# Rack, for Puma.
require_relative 'application'

run(lambda do |env|
  json = ->(body) { [200, { 'content-type' => 'application/json' }, [body]] }
  case env['PATH_INFO']
  when '/' then [200, { 'content-type' => 'text/html' }, [File.read("#{SITE}/index.html")]]
  when '/data' then json.call(data)
  when '/save'
    save(env['rack.input'].read)
    [303, { 'location' => '/' }, []]
  when '/upload' then json.call(summary(env['rack.input'].read))
  when '/file.bin' then [200, { 'content-type' => 'application/octet-stream' }, File.open("#{SITE}/file.bin", 'rb')]
  when '/wait'
    sleep 0.3
    [200, { 'content-type' => 'text/plain' }, ['waited']]
  when '/moved' then [302, { 'location' => '/data' }, []]
  when '/cookie' then [200, { 'content-type' => 'text/plain', 'set-cookie' => "a=1; Path=/\nb=2; HttpOnly" }, ['two cookies']]
  when '/events'
    events = Enumerator.new { |out| EVENTS.each { |event| out << event; sleep 0.05 } }
    [200, { 'content-type' => 'text/event-stream' }, events]
  else [404, { 'content-type' => 'text/plain' }, ['no such page']]
  end
end)
