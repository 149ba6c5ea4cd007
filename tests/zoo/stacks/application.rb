# The application for Ruby: WEBrick's servlets, and Rack for Puma.
require 'digest'
require 'json'

SITE = ENV.fetch('ZOO_SITE')
EVENTS = %w[one two three].map { |event| "data: #{event}\n\n" }

def data
  JSON.generate(value: File.read("#{SITE}/value.txt"), rows: (0..19).map { |n| { id: n, name: "row #{n}" } })
end

def save(form)
  File.write("#{SITE}/value.txt", form[/value=([^&]*)/, 1])
end

def summary(body)
  JSON.generate(bytes: body.bytesize, sha1: Digest::SHA1.hexdigest(body))
end
