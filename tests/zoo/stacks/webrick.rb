# WEBrick.
require 'webrick'
require_relative 'application'

quiet = WEBrick::Log.new(File::NULL)
server = WEBrick::HTTPServer.new(BindAddress: '127.0.0.1', Port: ARGV[0].to_i, Logger: quiet, AccessLog: [])
json = ->(response, body) { response['Content-Type'] = 'application/json'; response.body = body }
server.mount('/file.bin', WEBrick::HTTPServlet::FileHandler, "#{SITE}/file.bin")
server.mount_proc('/') do |request, response|
  case request.path
  when '/'
    response['Content-Type'] = 'text/html'
    response.body = File.read("#{SITE}/index.html")
  when '/data' then json.call(response, data)
  when '/save'
    save(request.body)
    response.set_redirect(WEBrick::HTTPStatus::SeeOther, '/')
  when '/upload' then json.call(response, summary(request.body || ''))
  when '/wait'
    sleep 0.3
    response['Content-Type'] = 'text/plain'
    response.body = 'waited'
  when '/moved' then response.set_redirect(WEBrick::HTTPStatus::Found, '/data')
  when '/events'
    response['Content-Type'] = 'text/event-stream'
    response.chunked = true
    response.body = proc { |out| EVENTS.each { |event| out.write(event); sleep 0.05 } }
  else
    response.status = 404
    response['Content-Type'] = 'text/plain'
    response.body = 'no such page'
  end
end
trap('TERM') { server.shutdown }
server.start
