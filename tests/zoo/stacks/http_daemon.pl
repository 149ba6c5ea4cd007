# Perl's HTTP::Daemon, one process for each connection.
use strict;
use warnings;
use Digest::SHA qw(sha1_hex);
use HTTP::Daemon;
use HTTP::Response;

my $site = $ENV{ZOO_SITE};
$SIG{CHLD} = 'IGNORE';

sub slurp { open my $in, '<:raw', "$site/$_[0]" or die "$_[0]: $!"; local $/; return <$in> }

sub data {
    my $rows = join ',', map {qq({"id":$_,"name":"row $_"})} 0 .. 19;
    return sprintf '{"value":"%s","rows":[%s]}', slurp('value.txt'), $rows;
}

sub answer {
    my ($connection, $request) = @_;
    my ($method, $path) = ($request->method, $request->uri->path);
    my $reply = sub { my ($status, $type, $body, @more) = @_; HTTP::Response->new($status, undef, ['Content-Type' => $type, @more], $body) };
    return $reply->(200, 'text/html', slurp('index.html')) if $path eq '/';
    return $reply->(200, 'application/json', data()) if $path eq '/data';
    if ($path eq '/save') {
        my ($value) = $request->content =~ /value=([^&]*)/;
        open my $out, '>', "$site/value.txt" or die $!;
        print $out $value;
        close $out;
        return HTTP::Response->new(303, undef, [Location => '/']);
    }
    return $reply->(200, 'application/json', sprintf '{"bytes":%d,"sha1":"%s"}', length $request->content, sha1_hex($request->content)) if $path eq '/upload';
    return $reply->(200, 'application/octet-stream', slurp('file.bin')) if $path eq '/file.bin';
    return HTTP::Response->new(302, undef, [Location => '/data']) if $path eq '/moved';
    if ($path eq '/wait') { select undef, undef, undef, 0.3; return $reply->(200, 'text/plain', 'waited') }
    if ($path eq '/events') {
        my @events = map {"data: $_\n\n"} qw(one two three);
        return $reply->(200, 'text/event-stream', sub { select undef, undef, undef, 0.05; shift @events // '' });
    }
    return $reply->(404, 'text/plain', 'no such page');
}

my $daemon = HTTP::Daemon->new(LocalAddr => '127.0.0.1', LocalPort => $ARGV[0], ReuseAddr => 1, Listen => 64) or die $!;
while (1) {
    my $connection = $daemon->accept or next;
    next if fork;
    while (my $request = $connection->get_request) {
        my $response = answer($connection, $request);
        $connection->send_response($response);
    }
    $connection->close;
    exit;
}
