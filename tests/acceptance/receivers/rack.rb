# Serves a Rack application, which Debian's Ruby has no server for.
require "stringio"
require "webrick"
require_relative "credits_webhook"

app = CreditsWebhook.new(ENV["WEBHOOK_SECRETS"])
silent = WEBrick::Log.new(File::NULL)
server = WEBrick::HTTPServer.new(BindAddress: "127.0.0.1", Port: ENV.fetch("PORT").to_i, Logger: silent, AccessLog: [])
server.mount_proc("/hooks/credits") do |request, response|
  env = request.meta_vars.merge("rack.input" => StringIO.new(request.body.to_s))
  response.status, = app.call(env)
end
server.start
